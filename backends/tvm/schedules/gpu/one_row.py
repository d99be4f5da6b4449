"""A row times a matrix, where the columns alone leave the GPU idle: TVM's rules, which share each sum among threads.

For linear layers over one token or one time step, on GPUs whose threads wait for each other at little cost.

            n →
          ┌────┬────┬────┐
      k   │ t0 │    │    │     a work-group: some neighbouring columns; its threads take the places of k in turns,
      ↓   │ t1 │    │    │     and add up their sums through local memory
          │ t0 │    │    │
          └────┴────┴────┘

Expected: bound by the memory that holds the matrix, which takes many loads at a time to be busy. A tile per thread
(`register_tiles`) has as many threads as vectors of columns, each with one load on its way: on an H200, 110 µs for
2048 × 2048 in float32, against 13 µs (`benchmarks/results/opencl_kernels_nvidia-h200.md`).
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir
from tvm.s_tir import dlight

from penstock.backends.tvm.schedules.gpu.contraction import find_contraction
from penstock.backends.tvm.schedules.gpu.device import device_of, most_lanes

_FLOAT = 4
"""Bytes of a sum."""


class OneRow(dlight.base.ScheduleRule):  # type: ignore[misc]
    """The sums of a row, each shared among threads."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        compute = device_of(target).compute
        found = find_contraction(s_tir.Schedule(func))
        if not compute.barriers or found is None or found.extent(found.batch) * found.extent(found.m) != 1:
            return None
        vectors = found.extent(found.n) // most_lanes(device_of(target), _FLOAT)
        if vectors >= compute.compute_units * compute.threads:
            return None
        return dlight.gpu.GEMV().apply(func, target, tunable) or dlight.gpu.Reduction().apply(func, target, tunable)

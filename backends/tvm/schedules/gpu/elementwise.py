"""Kernels whose every result depends on a few elements: arithmetic, activations, copies, gathers, upsampling.

    result, row-major, as one line:

    ├ v v v v ┼ v v v v ┼ … ┤   a thread takes one vector of V elements, its neighbour the next:
      thread 0  thread 1        a wave reads and writes one stretch of memory

Where vectors are not to be had (conditions, booleans, a line whose length no vector divides), a thread takes one
element.

All steps of a chain become one expression: nothing but the operands and the result is touched. Expected on any GPU: the
speed of the memory; enough threads to hide it as soon as the tensor has some ten thousand elements.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import dlight

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.gpu.device import device_of, threads_for, vector_lanes

_WITHOUT_VECTORS = (
    tirx.Select,
    tirx.EQ,
    tirx.NE,
    tirx.LT,
    tirx.LE,
    tirx.GT,
    tirx.GE,
    tirx.And,
    tirx.Or,
    tirx.Not,
    tirx.FloorDiv,
    tirx.FloorMod,
)


class Elementwise(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A vector per thread, for kernels without sums."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        schedule = s_tir.Schedule(func)
        results = results_of_chain(schedule)
        for block in results:
            schedule_elementwise(schedule, block, device_of(target))
        return schedule if results else None


def results_of_chain(schedule: Any) -> list[Any]:
    """The blocks that write results, all others inlined into them; none if a block of the kernel sums."""
    root = schedule.get_sblock("root")
    for block in schedule.get_child_blocks(root):
        if any(int(axis.iter_type) != tirx.IterVar.DataPar for axis in schedule.get(block).iter_vars):
            return []
    for block in schedule.get_child_blocks(root):
        if schedule.get_consumers(block):
            schedule.compute_inline(block)
    return list(schedule.get_child_blocks(root))


def schedule_elementwise(schedule: Any, block: Any, device: Target) -> None:
    """Divide the one block of a loop nest among threads."""
    held, loops = schedule.get(block), schedule.get_loops(block)
    line = schedule.fuse(*loops) if loops else schedule.add_unit_loop(block)
    total = int(schedule.get(line).extent)
    lanes = _lanes(held, device)
    threads = threads_for(device, total // lanes, waves=4)
    if lanes > 1:
        group, thread, lane = schedule.split(line, [None, threads, lanes])
        schedule.vectorize(lane)
    else:
        group, thread = schedule.split(line, [None, threads])
    schedule.bind(group, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")


def _lanes(block: Any, device: Target) -> int:
    """Elements of a vector: 1 where the block's expression has no vector form."""
    if not isinstance(block.body, tirx.BufferStore):
        return 1
    store = block.body
    types = {str(store.buffer.dtype)}
    conditions: list[Any] = []

    def load(node: Any) -> None:
        types.add(str(node.source.dtype))

    def call(node: Any) -> None:
        if str(node.op.name).endswith("if_then_else"):
            conditions.append(node)

    unfit = [(kind, conditions.append) for kind in _WITHOUT_VECTORS]
    tvm_ffi.structural_walk(store.value, [(tvm.ir.TensorLoad, load), (tvm.ir.Call, call), *unfit])
    if conditions or any(not kind.startswith("float") for kind in types):
        return 1
    extents = [int(axis.dom.extent) for axis in block.iter_vars]
    wide = [extent for extent in extents if extent > 1] or [1]
    plain = math.prod(extents) if _reads_its_own_place(block) else wide[-1]
    return vector_lanes(device, tvm_ffi.dtype(str(store.buffer.dtype)).itemsize, plain)


def _reads_its_own_place(block: Any) -> bool:
    """Whether all operands are read at the place that is written, so that rows may be run together."""
    place, same = list(block.body.indices), True

    def load(node: Any) -> None:
        nonlocal same
        indices = list(node.indices)
        same = same and len(indices) == len(place)
        same = same and all(tvm_ffi.structural_equal(a, b) for a, b in zip(indices, place, strict=True))

    tvm_ffi.structural_walk(block.body.value, (tvm.ir.TensorLoad, load))
    return same

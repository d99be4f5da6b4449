"""Copies that turn rows into columns: read along one axis, written along another.

             written along o →
            ┌────────┐
    read    │ 4 × 4  │   a thread: four vectors of four along i in, four vectors of four along o out,
    along i │        │   turned in registers; neighbours take the next vectors along o, so that a wave writes
      ↓     └────────┘   one stretch and reads whole vectors

For permutations of dimensions (channels last, heads first), with whatever arithmetic per element is fused to them,
where vectors divide both axes. Expected on any GPU: every byte read and written once, in vectors on both sides; no
local memory. A line of what is read serves the next threads along i from the first-level cache.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import dlight

from penstock.backends.tvm.schedules.gpu.device import device_of, threads_for, vector_lanes
from penstock.backends.tvm.schedules.gpu.elementwise import results_of_chain
from penstock.backends.tvm.schedules.gpu.rows import moves_by


class Transpose(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A square of elements per thread."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        schedule, device = s_tir.Schedule(func), device_of(target)
        blocks = results_of_chain(schedule)
        if len(blocks) != 1 or len(schedule.get_loops(blocks[0])) != len(schedule.get(blocks[0]).iter_vars):
            return None
        (block,) = blocks
        found = _turned(schedule.get(block))
        if found is None:
            return None
        reads, along_read, along_written = found
        held = schedule.get(block)
        extents = [int(axis.dom.extent) for axis in held.iter_vars]
        itemsize = tvm_ffi.dtype(str(held.writes[0].source.dtype)).itemsize
        wide = min(4, vector_lanes(device, itemsize, extents[along_read]))
        high = min(4, vector_lanes(device, itemsize, extents[along_written]))
        if wide < 2 or high < 2:
            return None
        loops = schedule.get_loops(block)
        inner_read = schedule.split(loops[along_read], [None, wide])
        inner_written = schedule.split(loops[along_written], [None, high])
        loops[along_read], loops[along_written] = inner_read[0], inner_written[0]
        schedule.reorder(*loops, inner_read[1], inner_written[1])
        line = schedule.fuse(*loops)
        squares = math.prod(extents) // (wide * high)
        group, thread = schedule.split(line, [None, threads_for(device, squares, elements=wide * high)])
        schedule.bind(group, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
        for read in reads:
            copied = schedule.cache_read(block, read, "local")
            axes = len(schedule.get(copied).iter_vars)
            schedule.compute_at(copied, thread, preserve_unit_loops=True)
            own = schedule.fuse(*schedule.get_loops(copied)[-axes:])
            outer, lane = schedule.split(own, [None, wide])
            schedule.unroll(outer)
            schedule.vectorize(lane)
        schedule.unroll(schedule.get_loops(block)[-2])
        schedule.vectorize(schedule.get_loops(block)[-1])
        return schedule


def _turned(block: Any) -> tuple[list[int], int, int] | None:
    """The operands that are read along another axis than the result is written along, and those two axes.

    None unless there are such operands, all read along one axis at one place for each of the result, and nothing is
    conditional.
    """
    if not isinstance(block.body, tirx.BufferStore):
        return None
    conditions: list[Any] = []
    tvm_ffi.structural_walk(block.body.value, [(kind, conditions.append) for kind in (tirx.Select, tirx.LT, tirx.LE)])
    types = {str(region.source.dtype) for region in (*block.reads, *block.writes)}
    if conditions or any(not kind.startswith("float") for kind in types):
        return None
    axes = [axis.var for axis in block.iter_vars]
    wide = [place for place, axis in enumerate(block.iter_vars) if int(axis.dom.extent) > 1]
    written = _along(block.writes[0], axes, wide)
    found = []
    for position, region in enumerate(block.reads):
        if any(not isinstance(extent.extent, tvm.tirx.IntImm) or int(extent.extent) != 1 for extent in region.region):
            return None
        along = _along(region, axes, wide)
        if along is not None and along != written:
            found.append((position, along))
    if written is None or len({along for _, along in found}) != 1:
        return None
    return [position for position, _ in found], found[0][1], written


def _along(region: Any, axes: list[Any], wide: list[int]) -> int | None:
    """The axis along which neighbours are neighbours in memory."""
    indices = [extent.min for extent in region.region]
    return next((place for place in wide if moves_by(region.source, indices, axes[place]) == 1), None)

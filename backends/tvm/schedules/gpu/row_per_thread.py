"""Sums over rows where there are enough rows: a thread per row, nothing shared.

For layer norms, softmax and sums over many or short rows, on any GPU; and on CPUs through PoCL.

      row 0   ├ v ┼ v ┼ v ┼ … ┤   thread 0: V partial sums side by side, added up at the end of the row
      row 1   ├ v ┼ v ┼ v ┼ … ┤   thread 1
       …

Sums over another dimension than the last take the same form without vectors: neighbouring threads then read
neighbouring elements.

Every sweep over the row (sums, squares, the result) is a loop of vectors of V elements. A thread reads whole vectors
that follow each other, so each cache line that a wave touches is used up over the next few steps.

Expected: no local memory, no barriers; one read of memory per row, later sweeps hit the first-level cache while a
work-group's rows fit it (16 KiB on Mali: 64 rows of 64 float32). Occupancy is rows / (compute units × threads).
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import s_tir
from tvm.s_tir import dlight

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.gpu.device import device_of, threads_for, vector_lanes
from penstock.backends.tvm.schedules.gpu.rows import Rows, find_rows, holds_booleans, is_sum, summed_loops

_SHORT = 64
"""Elements of a row that one thread takes however few rows there are."""
_LONG = 4096
"""Elements of a row that one thread should not take alone."""


class RowPerThread(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A thread per row."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        schedule, device = s_tir.Schedule(func), device_of(target)
        rows = find_rows(schedule)
        if rows is None:
            return None
        enough = rows.count >= device.compute.compute_units * device.compute.threads
        if rows.contiguous and rows.width > _SHORT and (rows.width > _LONG or not enough):
            return None
        _apply(schedule, rows, device)
        return schedule


def _apply(schedule: Any, rows: Rows, device: Target) -> None:
    vectors = rows.contiguous and not holds_booleans(schedule, rows)
    lanes = vector_lanes(device, 4, rows.width) if vectors else 1
    parts = {
        block: _partial_sums(schedule, block, lanes)
        for block in (*rows.inner, rows.last)
        if lanes > 1 and is_sum(schedule, block)
    }
    loops = schedule.get_loops(rows.last)
    row = schedule.fuse(*loops[: rows.rank]) if rows.rank else schedule.add_unit_loop(loops[0])
    group, thread = schedule.split(row, [None, threads_for(device, rows.count, elements=rows.width)])
    schedule.bind(group, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if rows.sweeps:
        sweep = schedule.fuse(*schedule.get_loops(rows.last)[2:])
        itemsize = tvm_ffi.dtype(str(schedule.get(rows.last).writes[0].source.dtype)).itemsize
        own = min(lanes, vector_lanes(device, itemsize, rows.width))
        if own > 1:
            schedule.vectorize(schedule.split(sweep, [None, own])[1])
    if rows.last in parts:
        _side_by_side(schedule, parts[rows.last], thread)
    for block in reversed(rows.inner):
        schedule.compute_at(block, thread, preserve_unit_loops=True)
        schedule.set_scope(block, 0, "local")
        if block in parts:
            _side_by_side(schedule, parts[block], thread)


def _partial_sums(schedule: Any, block: Any, lanes: int) -> Any:
    """Turn a sum into `lanes` sums side by side and their sum; returns the block of the former."""
    k = schedule.fuse(*summed_loops(schedule, block))
    return schedule.rfactor(schedule.split(k, [None, lanes])[1], 0)


def _side_by_side(schedule: Any, part: Any, thread: Any) -> None:
    """Compute partial sums in vectors: those of a row are the first axis of their block."""
    schedule.compute_at(part, thread, preserve_unit_loops=True)
    schedule.set_scope(part, 0, "local")
    lane, *_, k = schedule.get_loops(part)[2:]
    schedule.reorder(k, lane)
    *_, lane = schedule.get_loops(part)
    schedule.vectorize(lane)
    schedule.decompose_reduction(part, k)

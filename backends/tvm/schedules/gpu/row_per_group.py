"""Sums over rows where there are few rows, or long ones: a work-group per row.

For group norm's pieces, layer norm and softmax over few tokens, sums over whole tensors (in pieces), on any GPU.

      row r   ├ v0 ┼ v1 ┼ … ┼ vT ┼ v0 ┼ v1 ┼ … ┤     thread t takes vectors t, t + T, t + 2T …

Each thread keeps V partial sums side by side; at the end of a sum the work-group adds them up through local memory (on
Apple's GPUs with shuffles), and every thread goes on with the result. What follows from a sum alone (a mean) every
thread computes for itself.

Expected: a wave reads one stretch of memory at a time; one read of memory per row, later sweeps hit a cache while the
row fits it. Work-groups equal rows: whoever emits the kernel cuts long rows into pieces so that there are enough.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir
from tvm.s_tir import dlight

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.gpu.device import device_of, vector_lanes
from penstock.backends.tvm.schedules.gpu.rows import Rows, find_rows, holds_booleans, is_sum, summed_loops


class RowPerGroup(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A work-group per row."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        schedule = s_tir.Schedule(func)
        rows = find_rows(schedule)
        if rows is None or not rows.contiguous:
            return None
        device = device_of(target)
        lanes = 1 if holds_booleans(schedule, rows) else vector_lanes(device, 4, rows.width)
        while lanes > 1 and rows.width // lanes < device.limits.subgroup:
            lanes //= 2  # shorter vectors, and no idle lanes in a wave
        threads = _threads(device, rows.width // lanes)
        if not threads or threads < min(16, rows.width // lanes):
            return None
        _apply(schedule, rows, threads, lanes)
        return schedule


def _threads(device: Target, vectors: int) -> int:
    """Threads that share the vectors of a row without a rest, in waves as full as that allows; 0 if there are none.

    On Metal sums across threads pass through whole waves.
    """
    wave, most = device.limits.subgroup, device.compute.threads * (2 if device.compute.barriers else 1)

    def worth(threads: int) -> float:
        return threads * threads / (-(-threads // wave) * wave)

    step = wave if device.kind == "metal" else 1
    return max(
        (size for size in range(step, min(vectors, most) + 1, step) if vectors % size == 0), key=worth, default=0
    )


def _apply(schedule: Any, rows: Rows, threads: int, lanes: int) -> None:
    sums = [block for block in (*rows.inner, rows.last) if is_sum(schedule, block)]
    for block in rows.inner:
        if block not in sums:
            schedule.compute_inline(block)
    parts = {}
    for block in sums:
        _, part = schedule.split(schedule.fuse(*summed_loops(schedule, block)), [None, threads * lanes])
        parts[block] = schedule.rfactor(part, 0)
    loops = schedule.get_loops(rows.last)
    row = schedule.fuse(*loops[: rows.rank]) if rows.rank else schedule.add_unit_loop(loops[0])
    schedule.bind(row, "blockIdx.x")
    if rows.last not in sums:
        rest = schedule.get_loops(rows.last)[1:]
        sweep = schedule.fuse(*rest) if rest else schedule.add_unit_loop(rows.last)
        _, thread, lane = schedule.split(sweep, [None, threads, lanes if rows.sweeps else 1])
        schedule.bind(thread, "threadIdx.x")
        if rows.sweeps and lanes > 1:
            schedule.vectorize(lane)
    for block in reversed(sums):
        if block is not rows.last:
            schedule.compute_at(block, row, preserve_unit_loops=True)
            schedule.set_scope(block, 0, "shared")
        # Of a sum over partial sums, the loop over these is the only one that is long.
        own = schedule.get_loops(block)[1:]
        place = max(own, key=lambda loop: int(schedule.get(loop).extent))
        thread, lane = schedule.split(place, [threads, lanes])
        schedule.reorder(*(loop for loop in own if loop is not place), thread, lane)
        schedule.bind(thread, "threadIdx.x")
        _partial(schedule, parts[block], row, threads, lanes)


def _partial(schedule: Any, part: Any, row: Any, threads: int, lanes: int) -> None:
    """The sums of each thread, in vectors; they are the first axis of their block."""
    schedule.compute_at(part, row, preserve_unit_loops=True)
    schedule.set_scope(part, 0, "local")
    place, *units, k = schedule.get_loops(part)[1:]
    thread, lane = schedule.split(place, [threads, lanes])
    schedule.reorder(thread, *units, k, lane)
    schedule.bind(thread, "threadIdx.x")
    if lanes > 1:
        schedule.vectorize(lane)
    schedule.decompose_reduction(part, k)

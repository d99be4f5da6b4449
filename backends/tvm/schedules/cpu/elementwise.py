"""Elementwise kernels on a CPU: chains of arithmetic, casts, broadcasts, slices and permutations.

The trailing dimensions along which every operand lies side by side, or stays, make one run, however many they are: an
image of a channel, a row of features. Runs go by in full vectors and what is left; the positions before them are
spread over tasks::

    [batch, channel │ row, column]        scale[channel] + image[batch, channel, row, column]
     tasks            run of vectors

Traffic: every operand once. Where nothing lies side by side (a transposition) vectors gather along the last dimension,
and neighbouring positions find the lines that they need in the first-level cache.
"""

from __future__ import annotations

import math
from typing import Any

from tvm.s_tir import dlight
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.blocks import inlined, is_elementwise, lanes_of, moved, operations
from penstock.backends.tvm.schedules.cpu.kernel import built, cores, tasks
from penstock.backends.tvm.schedules.cpu.runs import is_run
from penstock.backends.tvm.schedules.cpu.tile import Expr, Registers, in_vectors, loops, unravel

_MOVE = 8
"""What moving an element costs, in multiply-adds."""
_TASKS_PER_CORE = 4


class Elementwise(dlight.base.ScheduleRule):  # type: ignore[misc]
    """Runs of vectors, for functions of one elementwise block."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name != "llvm":
            return None
        schedule, blocks = inlined(func)
        if len(blocks) != 1 or not is_elementwise(blocks[0]) or not blocks[0].iter_vars:
            return None
        return _scheduled(schedule.mod["main"], blocks[0], Registers.of(target))


def _scheduled(function: Any, block: Any, registers: Registers) -> Any:
    extents = [int(axis.dom.extent) for axis in block.iter_vars]
    axes = [axis.var for axis in block.iter_vars]
    rank = len(extents)
    cut = next((at for at in range(rank) if is_run(block, range(at, rank))), rank - 1)
    before, after = extents[:cut], extents[cut:]
    rows, length = math.prod(before), math.prod(after)
    if rows == 1 and length > 1:  # one long run: tasks take pieces of it
        piece = _piece(length, registers.lanes)
        return built(function, lambda: _emit(block, axes, (length // piece, piece), [], after, registers.lanes))
    return built(function, lambda: _emit(block, axes, (rows, length), before, after, registers.lanes))


def _piece(length: int, lanes: int) -> int:
    """A divisor of a run to make tasks of: a multiple of full vectors if it can be."""
    for pieces in (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2):
        if length % pieces == 0 and length // pieces >= 4 * lanes:
            return length // pieces
    return length


def _emit(block: Any, axes: list[Any], sizes: tuple[int, int], before: Any, after: Any, lanes: int) -> None:
    rows, length = sizes
    work = rows * length * (_MOVE + operations(block.body.value))
    count = min(rows, _TASKS_PER_CORE * cores(work)) if cores(work) > 1 else 1
    per_task = math.ceil(rows / count)
    with tasks(count, work) as task, loops([per_task]) as (i,):
        row = task * per_task + i
        with build.If(row < rows), build.Then():

            def vector(at: Expr, width: int) -> None:
                with lanes_of(width, block.body.value) as lane:
                    position = at + lane if before or rows == 1 else row * length + at + lane
                    places = [*unravel(row, before), *unravel(position, after)]
                    value = moved(block.body.value, axes, places, {})
                    where = [moved(at, axes, places, {}) for at in block.body.indices]
                    build.buffer_store(block.body.buffer, value, where)

            in_vectors(length, lanes, vector)

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax
from tvm.s_tir import dlight
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.blocks import inlined, is_elementwise, lanes_of, moved, operations
from penstock.backends.tvm.schedules.cpu.kernel import built, cores, tasks
from penstock.backends.tvm.schedules.cpu.runs import is_run
from penstock.backends.tvm.schedules.cpu.tile import Expr, Registers, in_vectors, index, loops, unravel

_MOVE = 8
"""What moving an element costs, in multiply-adds."""
_TASKS_PER_CORE = 4


class Elementwise(dlight.base.ScheduleRule):  # type: ignore[misc]
    """Runs of vectors, for functions of elementwise blocks; those that only rename positions stay views."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name != "llvm" or relax.analysis.has_reshape_pattern(func):
            return None
        schedule, blocks = inlined(func)
        if not all(is_elementwise(block) and block.iter_vars for block in blocks):
            return None
        lanes = Registers.of(target).lanes
        return built(schedule.mod["main"], lambda: _emit(schedule.mod["main"], blocks, lanes))


def _emit(function: Any, blocks: Sequence[Any], lanes: int) -> None:
    """One loop nest after the other; what one makes for the next lies in the open, where memory is planned."""
    params = list(function.params)
    kept: dict[Any, Any] = {}
    for block in blocks:
        made = block.writes[0].source
        if not any(made.same_as(param) for param in params):
            kept[made] = build.sblock_alloc_buffer(made.shape, made.dtype)
    for block in blocks:
        extents = [int(axis.dom.extent) for axis in block.iter_vars]
        rank = len(extents)
        cut = next((at for at in range(rank) if is_run(block, range(at, rank))), rank - 1)
        before, after = extents[:cut], extents[cut:]
        rows, length = math.prod(before), math.prod(after)
        if rows == 1:  # one long run: tasks take pieces of it
            length = _piece(length, lanes)
            rows = math.prod(extents) // length
        _Nest(block, kept, before, after, rows, length).emit(lanes)


def _piece(length: int, lanes: int) -> int:
    """A divisor of a run to make tasks of: a multiple of full vectors if it can be."""
    for pieces in (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2):
        if length % pieces == 0 and length // pieces >= 4 * lanes:
            return length // pieces
    return length


@dataclass(frozen=True)
class _Nest:
    """One block.

    Attributes:
        kept: where intermediate results lie.
        before: extents of the dimensions before a run; empty if rows are pieces of one run.
        after: extents of the run.
        rows: how many runs, or pieces of one.
        length: of each.
    """

    block: Any
    kept: Mapping[Any, Any]
    before: Sequence[int]
    after: Sequence[int]
    rows: int
    length: int

    def emit(self, lanes: int) -> None:
        """The loops."""
        work = self.rows * self.length * (_MOVE + operations(self.block.body.value))
        count = min(self.rows, _TASKS_PER_CORE * cores(work)) if cores(work) > 1 else 1
        per_task = math.ceil(self.rows / count)
        with tasks(count, work) as task, loops([per_task]) as (i,):
            row = task * per_task + i
            with build.If(row < self.rows), build.Then():
                in_vectors(self.length, lanes, lambda at, width: self._vector(row, at, width))

    def _vector(self, row: Expr, at: Expr, width: int) -> None:
        block = self.block
        axes = [axis.var for axis in block.iter_vars]
        loads = {made: lambda node, held=held: held[*node.indices] for made, held in self.kept.items()}
        with lanes_of(width, block.body.value) as lane:
            if math.prod(self.before) > 1:
                places = [*unravel(row, self.before), *unravel(at + lane, self.after)]
            else:
                places = [index(0)] * len(self.before) + unravel(row * self.length + at + lane, self.after)
            value = moved(block.body.value, axes, places, loads)
            where = [moved(place, axes, places, {}) for place in block.body.indices]
            made = block.body.buffer
            target = next((held for buffer, held in self.kept.items() if buffer.same_as(made)), made)
            build.buffer_store(target, value, where)

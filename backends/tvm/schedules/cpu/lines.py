"""Norms, softmax and sums on a CPU: everything that is done to a line, while the line is in the cache.

A line is what a reduction runs over: trailing dimensions that lie side by side. One task takes some lines, and does all
blocks of the function for one line before the next: sums in several vectors that are added up at the end, numbers of
the line (a mean, a largest element) one by one, elements in vectors::

    line     ▐ v0 ▐ v1 ▐ v2 ▐ v3 ▐ v0 ▐ v1 ▐ …        4 independent sums hide the latency of an addition
              └ += ┘                                   then v0+v1+v2+v3, then halves onto halves: one number
    numbers  mean = total / width
    line     (x - mean) · scale · weight + bias        elements, in vectors; everything fused behind the norm too

Traffic: the operands once from memory, and again from the first-level cache for each further sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import dlight
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.blocks import inlined, is_elementwise, lanes_of, moved, operations
from penstock.backends.tvm.schedules.cpu.kernel import built, cores, tasks
from penstock.backends.tvm.schedules.cpu.runs import is_run
from penstock.backends.tvm.schedules.cpu.tile import Expr, Registers, in_vectors, index, loops, ramp, spread, unravel

_SUMS = 4
_MOVE = 4
"""What reading an element costs, in multiply-adds."""
_TASKS_PER_CORE = 4


class Lines(dlight.base.ScheduleRule):  # type: ignore[misc]
    """One line after the other, for functions whose reductions all run over the same trailing dimensions."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name != "llvm":
            return None
        schedule, blocks = inlined(func)
        reductions = [block for block in blocks if _reduced(block)]
        if not reductions:
            return None
        kernel = _Kernel(schedule.mod["main"], blocks, reductions[0], Registers.of(target))
        return kernel.scheduled() if kernel.is_possible else None


def _reduced(block: Any) -> list[int]:
    """The axes that a block sums over."""
    return [dim for dim, axis in enumerate(block.iter_vars) if str(axis.iter_type) == "2"]


def _kept(block: Any) -> list[int]:
    """The axes of a block that are not summed over and have more than one position."""
    return [dim for dim, axis in enumerate(block.iter_vars) if str(axis.iter_type) == "0" and int(axis.dom.extent) != 1]


class _Kernel:
    """One function.

    Attributes:
        is_possible: whether all blocks go along the same lines.
    """

    def __init__(self, function: Any, blocks: Sequence[Any], reduction: Any, registers: Registers) -> None:
        self._function = function
        self._blocks = blocks
        self._lanes = registers.lanes
        self._rows = self._extents(reduction, _kept(reduction))
        self._width = math.prod(self._extents(reduction, _reduced(reduction)))
        self._params = list(function.params)
        self._made = [block.writes[0].source for block in blocks]
        self._held: list[tuple[Any, Any, list[Expr], bool]] = []  # buffer, scratch, position, whether of a line
        self.is_possible = self._width > 1 and all(map(self._goes_along, blocks))

    def scheduled(self) -> Any:
        """The schedule."""
        return built(self._function, self._emit)

    def _extents(self, block: Any, dims: Sequence[int]) -> list[int]:
        return [int(block.iter_vars[dim].dom.extent) for dim in dims]

    def _run(self, block: Any) -> list[int]:
        """The axes of a block that go along a line; none for a block of numbers."""
        return _reduced(block) or _kept(block)[len(self._rows) :]

    def _goes_along(self, block: Any) -> bool:
        run, kept = self._run(block), _kept(block)
        if self._extents(block, kept[: len(self._rows)]) != self._rows or len(block.writes) != 1:
            return False
        if run and math.prod(self._extents(block, run)) != self._width:
            return False
        if _reduced(block):
            if len(kept) != len(self._rows) or _combination(block) is None:
                return False
        elif not is_elementwise(block):
            return False
        return is_run(block, run, [] if not _reduced(block) else [block.writes[0].source])

    def _emit(self) -> None:
        rows = math.prod(self._rows)
        cost = sum(_MOVE + operations(block.body.value) for block in self._blocks)
        work = rows * self._width * cost
        count = min(rows, _TASKS_PER_CORE * cores(work)) if cores(work) > 1 else 1
        per_task = math.ceil(rows / count)
        with tasks(count, work) as task, build.sblock("task"):
            build.reads([])
            build.writes([])
            for block, made in zip(self._blocks, self._made, strict=True):
                if not any(made.same_as(param) for param in self._params):
                    size = self._width if not _reduced(block) and self._run(block) else 1
                    self._held.append((made, build.sblock_alloc_buffer((size,), str(made.dtype)), [], size > 1))
            with loops([per_task]) as (i,):
                row = task * per_task + i
                with build.If(row < rows), build.Then():
                    for block in self._blocks:
                        self._block(block, unravel(row, self._rows))

    def _block(self, block: Any, row: list[Expr]) -> None:
        if _reduced(block):
            self._reduction(block, row)
        elif self._run(block):

            def vector(at: Expr, width: int) -> None:
                with lanes_of(width, block.body.value) as lane:
                    self._store(block, row, at + lane, self._moved(block, block.body.value, row, at + lane))

            in_vectors(self._width, self._lanes, vector)
        else:
            self._store(block, row, index(0), self._moved(block, block.body.value, row, index(0)))

    def _reduction(self, block: Any, row: list[Expr]) -> None:
        found = _combination(block)
        assert found is not None
        combine, more = found
        first = block.init.value
        dtype = str(block.writes[0].source.dtype)
        lanes = min(self._lanes, 2 ** int(math.log2(self._width)))
        sums = min(_SUMS, self._width // lanes)
        with build.sblock("sums"):
            build.reads([])
            build.writes([])
            partial = build.sblock_alloc_buffer((sums, lanes), dtype)
            with loops([sums], unrolled=True) as (s,):
                build.buffer_store(partial, spread(first, lanes), [s, ramp(0, lanes)])

            def vector(at: Expr, width: int, s: Expr) -> None:
                with lanes_of(width, more) as lane:
                    value = combine(partial[s, lane], self._moved(block, more, row, at + lane))
                    build.buffer_store(partial, value, [s, lane])

            step = sums * lanes
            with loops([self._width // step]) as (i,), loops([sums], unrolled=True) as (s,):
                vector(i * step + s * lanes, lanes, s)
            done = self._width // step * step
            in_vectors(self._width - done, lanes, lambda at, width: vector(at + done, width, index(0)))
            with loops([sums - 1], unrolled=True) as (s,):
                if sums > 1:
                    joined = combine(partial[0, ramp(0, lanes)], partial[s + 1, ramp(0, lanes)])
                    build.buffer_store(partial, joined, [0, ramp(0, lanes)])
            half = lanes // 2
            while half:
                joined = combine(partial[0, ramp(0, half)], partial[0, ramp(half, half)])
                build.buffer_store(partial, joined, [0, ramp(0, half)])
                half //= 2
            self._store(block, row, index(0), partial[0, 0])

    def _places(self, block: Any, row: list[Expr], position: Expr) -> list[Expr]:
        """Where each axis of a block stands."""
        run = self._run(block)
        along = dict(zip(run, unravel(position, self._extents(block, run)), strict=True))
        across = dict(zip(_kept(block)[: len(row)], row, strict=True))
        return [along.get(dim, across.get(dim, index(0))) for dim in range(len(block.iter_vars))]

    def _moved(self, block: Any, expr: Expr, row: list[Expr], position: Expr) -> Expr:
        axes = [axis.var for axis in block.iter_vars]
        loads = {made: self._load(scratch, row, position, is_line) for made, scratch, _, is_line in self._held}
        return moved(expr, axes, self._places(block, row, position), loads)

    def _load(self, scratch: Any, row: list[Expr], position: Expr, is_line: bool) -> Callable[[Any], Expr]:
        def load(node: Any) -> Expr:
            at = [place for place in node.indices if not isinstance(place, tirx.IntImm)]
            own = [place for place in row if not isinstance(place, tirx.IntImm)]
            if not all(tvm_ffi.structural_equal(a, b) for a, b in zip(at, own, strict=False)):
                raise ValueError("a block reads what another line made")
            return scratch[position if is_line else 0]

        return load

    def _store(self, block: Any, row: list[Expr], position: Expr, value: Expr) -> None:
        made = block.writes[0].source
        scratch = next((held for buffer, held, _, _ in self._held if buffer.same_as(made)), None)
        if scratch is not None:
            build.buffer_store(scratch, value, [position if self._run(block) and not _reduced(block) else index(0)])
            return
        axes = [axis.var for axis in block.iter_vars]
        places = self._places(block, row, position)
        build.buffer_store(made, value, [moved(at, axes, places, {}) for at in block.body.indices])


def _combination(block: Any) -> tuple[Callable[[Expr, Expr], Expr], Expr] | None:
    """How a reduction combines two numbers, and what it adds in each iteration."""
    body = block.body
    if not isinstance(body, tirx.BufferStore) or block.init is None:
        return None
    kinds: dict[Any, Callable[[Expr, Expr], Expr]] = {
        tirx.Add: lambda a, b: a + b,
        tirx.Mul: lambda a, b: a * b,
        tirx.Max: tirx.max,
        tirx.Min: tirx.min,
    }
    combine = kinds.get(type(body.value))
    if combine is None or not isinstance(body.value.a, tvm.ir.TensorLoad):
        return None
    return (combine, body.value.b) if body.value.a.source.same_as(body.buffer) else None

"""Looking at the blocks of a function, and moving what they compute to other places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.script import tirx as T
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.tile import Expr, index

_CHEAP = 8
"""Operations per element that may be computed again by each reader."""


def moved(expr: Expr, axes: Sequence[Any], places: Sequence[Expr], loads: Mapping[Any, Callable[[Any], Expr]]) -> Expr:
    """An expression of a block at another position.

    Args:
        axes: variables of the block.
        places: what stands in for each.
        loads: by buffer, what stands in for an element of it; called with the load, whose indices are moved already.
    """
    pairs = list(zip(axes, map(index, places), strict=True))

    def variable(var: Any) -> Any:
        return next((place for axis, place in pairs if axis.same_as(var)), var)

    def load(node: Any) -> Any:
        made = next((make for buffer, make in loads.items() if node.source.same_as(buffer)), None)
        return node if made is None else made(node)

    return tvm_ffi.structural_map(expr, [(tvm.ir.Var, variable), (tvm.ir.TensorLoad, load)])


def inlined(function: Any) -> tuple[Any, list[Any]]:
    """A schedule in which each elementwise step is part of its readers where that saves work, and the blocks left.

    A step that moves elements, or costs little, or that every reader reads once, is computed where it is read. What is
    dear and read over and over (a root per group, an exponential per row) stays a block of its own.
    """
    schedule = s_tir.Schedule(function)
    root = schedule.get_sblock("root")
    for block in schedule.get_child_blocks(root):
        readers = schedule.get_consumers(block)
        if readers and is_elementwise(schedule.get(block)) and _worth(schedule, block, readers):
            schedule.compute_inline(block)
    return schedule, [schedule.get(block) for block in schedule.get_child_blocks(root)]


@contextmanager
def lanes_of(width: int, *exprs: Expr) -> Iterator[Expr]:
    """A loop over the lanes of a vector; one lane after the other where an expression asks the C library for something.

    Args:
        exprs: what the loop will compute.
    """
    kind = build.serial if any(map(_calls_library, exprs)) else build.vectorized
    with kind(T.int64(0), T.int64(width)) as lane:
        yield lane


def _calls_library(expr: Expr) -> bool:
    """Whether TVM has no rule for a function of the expression but to call the C library, which knows no vectors."""
    found: list[Any] = []
    tvm_ffi.structural_walk(expr, (tvm.ir.Call, lambda call: found.append(call.op)))
    return any(
        op.get_attr("default.FLowerIntrinsic") is not None
        and all(op.get_attr(f"llvm.{rule}") is None for rule in ("FLowerIntrinsic", "FLegalize"))
        for op in found
        if isinstance(op, tvm.ir.Op)
    )


def _worth(schedule: Any, block: Any, readers: Sequence[Any]) -> bool:
    made = iterations(schedule.get(block))
    again = max(iterations(schedule.get(reader)) for reader in readers) > made
    return not again or (operations(schedule.get(block).body.value) <= _CHEAP and len(readers) == 1)


def is_elementwise(block: Any) -> bool:
    """Whether every iteration of a block writes one element, at the place that its axes name, and nothing else."""
    if any(str(axis.iter_type) != "0" for axis in block.iter_vars) or not isinstance(block.body, tirx.BufferStore):
        return False
    axes = {axis.var for axis in block.iter_vars}
    return all(at in axes or isinstance(at, tirx.IntImm) for at in block.body.indices)


def iterations(block: Any) -> int:
    """How many iterations a block has."""
    return math.prod(int(axis.dom.extent) for axis in block.iter_vars)


def operations(expr: Expr) -> int:
    """About how many operations an expression takes, in multiplications."""
    total = 0

    def operation(weight: int) -> Callable[[Any], None]:
        def count(_: Any) -> None:
            nonlocal total
            total += weight

        return count

    def call(node: Any) -> None:
        nonlocal total
        total += 0 if str(node.op.name).endswith("if_then_else") else 16

    kinds = [(kind, operation(1)) for kind in (tirx.Add, tirx.Sub, tirx.Mul)]
    tvm_ffi.structural_walk(expr, [*kinds, (tirx.Div, operation(8)), (tvm.ir.Call, call)])
    return total

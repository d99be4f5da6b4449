"""Writing at positions: the result is a copy with some elements replaced or added to.

Every element of the result is computed by one thread, so that the result is the same on every run: where several
values fall on one position, the last one wins, as in torch on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from tvm import relax, te, tirx
from tvm.script import tirx as T

from penstock.backends.tvm.ops.emit import Emit, Expr, Number, Var, axis, dtype_of, shape_of
from penstock.backends.tvm.ops.registry import lowers
from penstock.backends.tvm.ops.scan import as_lines, one_thread_per_line

aten = torch.ops.aten


@lowers(aten.slice_scatter.default)
def slice_scatter(
    emit: Emit, x: Expr, part: Expr, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Var:
    """A range of one dimension replaced."""
    dim = axis(dim, len(emit.shape))
    begin, _, step = slice(start, end, step).indices(emit.shape[dim])
    offsets = [begin if d == dim else 0 for d in range(len(emit.shape))]
    return _replaced(emit, x, part, offsets, [step if d == dim else 1 for d in range(len(emit.shape))])


@lowers(aten.select_scatter.default)
def select_scatter(emit: Emit, x: Expr, part: Expr, dim: int, index: int) -> Var:
    """One position of a dimension replaced."""
    dim = axis(dim, len(emit.shape))
    part = emit.reshape(part, (*emit.shape[:dim], 1, *emit.shape[dim + 1 :]))
    offsets = [index % emit.shape[dim] if d == dim else 0 for d in range(len(emit.shape))]
    return _replaced(emit, x, part, offsets, [1] * len(emit.shape))


def _replaced(emit: Emit, x: Expr, part: Expr, offsets: Sequence[int], steps: Sequence[int]) -> Var:
    """`x` with a regular grid of elements taken from `part`."""
    extents, counts = shape_of(x), shape_of(part)

    def compute(whole: te.Tensor, piece: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            source, checks = list(i), []
            for d, at in enumerate(i):
                if counts[d] != extents[d] or steps[d] != 1:
                    distance = at - offsets[d]
                    source[d] = tirx.floordiv(distance, steps[d])
                    checks += [distance >= 0, distance < counts[d] * steps[d], tirx.floormod(distance, steps[d]) == 0]
            return tirx.if_then_else(tirx.all(*checks), piece(*source), whole(*i)) if checks else piece(*i)

        return te.compute(extents, element, name="slice_scatter")

    return emit.te(compute, x, emit.cast(part, emit.dtype), name="slice_scatter")


@lowers(aten.scatter.src, aten.scatter_add.default)
def scatter(emit: Emit, x: Expr, dim: int, positions: Expr, values: Expr) -> Expr:
    """Along one dimension, write (or add) each element of `values` at the position that stands beside it."""
    rank = len(emit.shape)
    if not rank:
        x, positions, values = (emit.reshape(tensor, (1,)) for tensor in (x, positions, values))
    dim = axis(dim, rank)
    values = _corner(emit, values, shape_of(positions))
    counts = shape_of(positions)
    region_shape = (*counts[:dim], shape_of(x)[dim], *counts[dim + 1 :])
    region = _corner(emit, x, region_shape)
    lines, count = as_lines(region_shape, dim), counts[dim]
    update_lines = (lines[0], count, lines[2])
    adds = emit.target == aten.scatter_add.default
    held = emit.wide if adds else emit.dtype
    function = one_thread_per_line(_line_scatter(lines, count, held, dtype_of(positions), adds))
    written = emit.kernel(
        function,
        emit.reshape(emit.cast(region, held), lines),
        emit.reshape(positions, update_lines),
        emit.reshape(emit.cast(values, held), update_lines),
        name="scatter",
        shape=lines,
        dtype=held,
    )
    written = emit.reshape(emit.cast(written, emit.dtype), region_shape)
    if region_shape != shape_of(x):
        written = _replaced(emit, x, written, [0] * rank, [1] * rank)
    return emit.reshape(written, emit.shape)


@lowers(aten.scatter.value)
def scatter_value(emit: Emit, x: Expr, dim: int, positions: Expr, value: Number) -> Expr:
    """Along one dimension, write one number at each position."""
    return scatter(emit, x, dim, positions, emit.full(value, shape_of(positions), emit.dtype))


def _corner(emit: Emit, x: Expr, shape: Sequence[int]) -> Expr:
    """The first elements of each dimension."""
    if shape_of(x) == tuple(shape):
        return x
    dims = list(range(len(shape)))
    return emit(relax.op.strided_slice(x, dims, [0] * len(dims), list(shape), [1] * len(dims)))


@cache
def _line_scatter(lines: tuple[int, int, int], count: int, dtype: str, position_dtype: str, adds: bool) -> Any:
    before, along, after = lines

    @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
    def scatter(source: T.handle, where: T.handle, updates: T.handle, target: T.handle):  # type: ignore[no-untyped-def]
        x = T.match_buffer(source, (before, along, after), dtype)
        positions = T.match_buffer(where, (before, count, after), position_dtype)
        values = T.match_buffer(updates, (before, count, after), dtype)
        y = T.match_buffer(target, (before, along, after), dtype)
        for i, j in T.grid(before, after):
            with T.sblock("line"):
                vi, vj = T.axis.remap("SS", [i, j])
                T.reads(x[vi, 0:along, vj], positions[vi, 0:count, vj], values[vi, 0:count, vj])
                T.writes(y[vi, 0:along, vj])
                for k in range(along):
                    y[vi, k, vj] = x[vi, k, vj]
                for k in range(count):
                    at = T.if_then_else(
                        positions[vi, k, vj] < 0,
                        T.cast(positions[vi, k, vj], "int64") + T.int64(along),
                        T.cast(positions[vi, k, vj], "int64"),
                    )
                    if at >= 0 and at < along:
                        if adds:
                            y[vi, at, vj] = y[vi, at, vj] + values[vi, k, vj]
                        else:
                            y[vi, at, vj] = values[vi, k, vj]

    return scatter

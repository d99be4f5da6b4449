"""Writing at positions: the result is a copy with some elements replaced or added to.

Every element of the result is computed by one thread, so that the result is the same on every run: where several
values fall on one position, the last one wins, as in torch on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from tvm import relax, te, tirx
from tvm.script import tirx as T

from penstock.backends.tvm.ops.emit import Emit, Expr, Number, Value, Var, axis, broadcast_read, dtype_of, shape_of
from penstock.backends.tvm.ops.index import in_range, indexed_dims
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


@lowers(aten.index_put.default)
def index_put(emit: Emit, x: Expr, positions: Sequence[Expr | None], values: Value, accumulate: bool = False) -> Expr:
    """Write (or add) values at positions given by tensors that broadcast together; None means a whole dimension."""
    by_dim = indexed_dims(positions)
    dims = list(by_dim)
    rest = [d for d in range(len(emit.shape)) if d not in by_dim]
    # The indexed dimensions go to the front, where they and their values become one dimension each.
    order = dims + rest
    back = [order.index(d) for d in range(len(order))]
    common = np.broadcast_shapes(*(shape_of(tensor) for tensor in by_dim.values()))
    rest_shape = tuple(emit.shape[d] for d in rest)
    spot_shape = tuple(emit.shape[d] for d in dims)
    flat = _flat_positions(emit, list(by_dim.values()), spot_shape, common)
    updates = _updates(emit, values, dims, common, rest_shape)
    moved = emit(relax.op.permute_dims(x, order)) if order != sorted(order) else x
    moved = emit.reshape(moved, (math.prod(spot_shape), math.prod(rest_shape)))
    moved = (_add_rows if accumulate else _write_rows)(emit, moved, flat, updates)
    moved = emit.reshape(moved, spot_shape + rest_shape)
    return emit(relax.op.permute_dims(moved, back)) if order != sorted(order) else moved


def _flat_positions(emit: Emit, tensors: list[Expr], extents: Sequence[int], common: Sequence[int]) -> Var:
    """One position per update, counted over all indexed dimensions together."""
    count = math.prod(common)

    def compute(*parts: te.Tensor) -> te.Tensor:
        def element(k: Any) -> Any:
            at: list[Any] = []
            for extent in reversed(common):
                at.insert(0, tirx.floormod(k, extent))
                k = tirx.floordiv(k, extent)
            flat: Any = tirx.const(0, "int64")
            for part, extent in zip(parts, extents, strict=True):
                flat = flat * extent + in_range(broadcast_read(part, at), extent)
            return flat

        return te.compute((count,), element, name="positions")

    return emit.te(compute, *tensors, name="positions")


def _updates(emit: Emit, values: Expr, dims: Sequence[int], common: Sequence[int], rest_shape: Sequence[int]) -> Expr:
    """The values as (update, rest), broadcast to one value per element written."""
    neighbours = list(dims) == list(range(dims[0], dims[-1] + 1))
    front = dims[0] if neighbours else 0
    width = len(common)
    shape = (*rest_shape[:front], *common, *rest_shape[front:])
    values = emit.broadcast(emit.cast(values, emit.dtype), shape)
    order = [*range(front, front + width), *range(front), *range(front + width, len(shape))]
    if order != sorted(order):
        values = emit(relax.op.permute_dims(values, order))
    return emit.reshape(values, (math.prod(common), math.prod(rest_shape)))


def _write_rows(emit: Emit, x: Expr, positions: Expr, updates: Expr) -> Var:
    """Row r becomes the last update whose position is r, or stays."""
    rows, count = shape_of(x)[0], shape_of(positions)[0]

    def last_update(at: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, count), "k")
        none = tirx.const(-1, "int32")
        return te.compute(
            (rows,),
            lambda r: te.max(tirx.if_then_else(at(k) == r, k.astype("int32"), none), axis=k),
            name="last_update",
        )

    def write(old: te.Tensor, last: te.Tensor, new: te.Tensor) -> te.Tensor:
        return te.compute(
            shape_of(x),
            lambda r, c: tirx.if_then_else(last(r) >= 0, new(tirx.max(last(r), 0), c), old(r, c)),
            name="index_put",
        )

    last = emit.te(last_update, positions, name="last_update")
    return emit.te(write, x, last, updates, name="index_put")


def _add_rows(emit: Emit, x: Expr, positions: Expr, updates: Expr) -> Expr:
    """Row r grows by the sum of all updates whose position is r."""
    count = shape_of(positions)[0]

    def added(at: te.Tensor, new: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, count), "k")
        zero = tirx.const(0, emit.wide)
        return te.compute(
            shape_of(x),
            lambda r, c: te.sum(tirx.if_then_else(at(k) == r, new(k, c).astype(emit.wide), zero), axis=k),
            name="added",
        )

    sums = emit.te(added, positions, updates, name="index_add")
    return emit.cast(emit(relax.op.add(emit.cast(x, emit.wide), sums)), emit.dtype)

"""Writing at positions that several tensors give together: `x[i, :, j] = values`.

The indexed dimensions become one, and so do the positions. Then every row of the result asks which update is its last
(or sums all of its updates), so that no two threads write the same element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax, te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, Value, Var, broadcast_read, shape_of
from penstock.backends.tvm.ops.index import in_range, indexed_dims
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten


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

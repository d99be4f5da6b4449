"""Operators that only move elements: views, permutations, slices, joins.

A part of a split is a slice of its own, not one result of a kernel with many: slices fuse into what uses them, and
unused ones vanish.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import tvm
from tvm import relax, te, tirx, topi

from penstock.backends.tvm.launches import CONCATENATION
from penstock.backends.tvm.ops.emit import OPAQUE, VIEW_ALIGNMENT, Emit, Expr, Var, axes, axis, dtype_of, shape_of
from penstock.backends.tvm.ops.registry import lowers
from penstock.passes.core.shapes import dtype_named

aten = torch.ops.aten
_PERMUTE = tvm.ir.Op.get("relax.permute_dims")


@lowers(
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
)
def reshape(emit: Emit, x: Expr, _: Any = None) -> Expr:
    """The same elements in the result's shape."""
    return emit.reshape(x, emit.shape)


@lowers(aten.clone.default, aten.contiguous.default)
def identity(emit: Emit, x: Expr) -> Expr:
    """The tensor itself: values never change in place, and every tensor is dense."""
    return x


@lowers(aten.permute.default)
def permute(emit: Emit, x: Expr, dims: Sequence[int]) -> Expr:
    """Dimensions in another order."""
    return permuted(emit, x, [axis(dim, len(dims)) for dim in dims])


def permuted(emit: Emit, x: Expr, order: Sequence[int]) -> Expr:
    """Dimensions in another order; of a tensor that is permuted itself, in one step."""
    bound = emit.builder.lookup_binding(x) if isinstance(x, relax.Var) else None
    if isinstance(bound, relax.Call) and bound.op.same_as(_PERMUTE):
        x, order = bound.args[0], [int(bound.attrs.axes[dim]) for dim in order]
    return x if list(order) == sorted(order) else emit(relax.op.permute_dims(x, order))


@lowers(aten.transpose.int)
def transpose(emit: Emit, x: Expr, first: int, second: int) -> Expr:
    """Two dimensions swapped."""
    rank = len(emit.shape)
    order = list(range(rank))
    if rank:
        first, second = axis(first, rank), axis(second, rank)
        order[first], order[second] = order[second], order[first]
    return permute(emit, x, order)


@lowers(aten.t.default)
def t(emit: Emit, x: Expr) -> Expr:
    """A matrix transposed; a vector as it is."""
    return transpose(emit, x, 0, -1)


@lowers(aten.expand.default)
def expand(emit: Emit, x: Expr, _: Sequence[int], implicit: bool = False) -> Expr:
    """The tensor repeated along 1-sized and new leading dimensions."""
    return emit.broadcast(x, emit.shape)


@lowers(aten.slice.Tensor)
def slice_(emit: Emit, x: Expr, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Expr:
    """Every `step`-th element of a range; bounds may be negative, and are clipped."""
    dim = axis(dim, len(shape_of(x)))
    begin, stop, step = slice(start, end, step).indices(shape_of(x)[dim])
    return sliced(emit, x, dim, begin, max(begin, stop), step)


def sliced(emit: Emit, x: Expr, dim: int, begin: int, end: int, step: int = 1) -> Expr:
    """A range of one dimension, with bounds counted from the front and in range; a view where it lies in one piece."""
    shape = shape_of(x)
    if (begin, end, step) == (0, shape[dim], 1):
        return x
    row = dtype_named(dtype_of(x)).itemsize * math.prod(shape[dim + 1 :])
    in_one_piece = step == 1 and end > begin and math.prod(shape[:dim]) == 1 and begin * row % VIEW_ALIGNMENT == 0
    if in_one_piece and emit.lies_dense(x):  # else all of it would be copied for the part
        return emit.view(x, begin * row, (*shape[:dim], end - begin, *shape[dim + 1 :]))
    return emit(relax.op.strided_slice(x, [dim], [begin], [end], [step]))


@lowers(aten.select.int)
def select(emit: Emit, x: Expr, dim: int, index: int) -> Expr:
    """One position of a dimension, which goes away. The index may be negative."""
    shape = shape_of(x)
    dim = axis(dim, len(shape))
    index = index % shape[dim]
    return emit.reshape(sliced(emit, x, dim, index, index + 1), shape[:dim] + shape[dim + 1 :])


@lowers(aten.unbind.int)
def unbind(emit: Emit, x: Expr, dim: int = 0) -> list[Expr]:
    """All positions of a dimension."""
    return [select(emit, x, dim, index) for index in range(shape_of(x)[axis(dim, len(shape_of(x)))])]


@lowers(aten.split_with_sizes.default)
def split_with_sizes(emit: Emit, x: Expr, sizes: Sequence[int], dim: int = 0) -> list[Expr]:
    """Ranges of the given sizes, one after the other."""
    dim = axis(dim, len(shape_of(x)))
    begins = [sum(sizes[:position]) for position in range(len(sizes))]
    return [sliced(emit, x, dim, begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]


@lowers(aten.split.Tensor)
def split(emit: Emit, x: Expr, size: int, dim: int = 0) -> list[Expr]:
    """Ranges of one size; the last may be shorter."""
    extent = shape_of(x)[axis(dim, len(shape_of(x)))]
    sizes = [min(size, extent - begin) for begin in range(0, extent, size)]
    return split_with_sizes(emit, x, sizes, dim)


@lowers(aten.chunk.default)
def chunk(emit: Emit, x: Expr, chunks: int, dim: int = 0) -> list[Expr]:
    """At most that many ranges of one size, rounded up."""
    return split(emit, x, math.ceil(shape_of(x)[axis(dim, len(shape_of(x)))] / chunks), dim)


@lowers(aten.cat.default)
def cat(emit: Emit, parts: Sequence[Expr], dim: int = 0) -> Expr:
    """Tensors joined along a dimension; empty ones count for nothing, as in torch.

    Where each part lies in one piece of the whole, it is written there at once, if memory allows, and else copied.
    """
    parts = [emit.cast(part, emit.dtype) for part in parts if 0 not in shape_of(part)]
    if len(parts) == 1:
        return parts[0]
    dim = axis(dim, len(emit.shape))
    sizes = [dtype_named(emit.dtype).itemsize * math.prod(shape_of(part)) for part in parts[:-1]]
    if math.prod(emit.shape[:dim]) == 1 and all(size % VIEW_ALIGNMENT == 0 for size in sizes):
        attributes = {CONCATENATION: True, "op_pattern": OPAQUE}
        return emit.te(lambda *held: topi.concatenate(held, dim), *parts, name="concatenate", **attributes)
    return emit(relax.op.concat(parts, dim))


@lowers(aten.stack.default)
def stack(emit: Emit, parts: Sequence[Expr], dim: int = 0) -> Expr:
    """Tensors joined along a new dimension."""
    dim = axis(dim, len(emit.shape))
    shape = (*emit.shape[:dim], 1, *emit.shape[dim + 1 :])
    return cat(emit, [emit.reshape(part, shape) for part in parts], dim)


@lowers(aten.repeat.default)
def repeat(emit: Emit, x: Expr, counts: Sequence[int]) -> Expr:
    """The whole tensor again and again along each dimension."""
    x = emit.reshape(x, (1,) * (len(counts) - len(shape_of(x))) + shape_of(x))
    return x if all(count == 1 for count in counts) else emit(relax.op.tile(x, list(counts)))


@lowers(aten.flip.default)
def flip(emit: Emit, x: Expr, dims: Sequence[int]) -> Var:
    """Some dimensions reversed."""
    reverse = {axis(dim, len(emit.shape)) for dim in dims}
    return _moved(emit, x, "flip", lambda d, i: emit.shape[d] - 1 - i if d in reverse else i)


@lowers(aten.roll.default)
def roll(emit: Emit, x: Expr, shifts: Sequence[int], dims: Sequence[int] = ()) -> Expr:
    """Elements shifted along dimensions, coming in again at the other end; over the flattened tensor without `dims`."""
    if not dims:
        flat = emit.reshape(x, (math.prod(emit.shape),))
        return emit.reshape(_rolled(emit, flat, {0: shifts[0]}), emit.shape)
    distance: dict[int, int] = {}
    for dim, shift in zip(axes(dims, len(emit.shape)), shifts, strict=True):
        distance[dim] = distance.get(dim, 0) + shift
    return _rolled(emit, x, distance)


def _rolled(emit: Emit, x: Expr, distance: dict[int, int]) -> Var:
    shape = shape_of(x)

    def source(d: int, i: Any) -> Any:
        shift = distance.get(d, 0) % shape[d]
        # Not a modulo: TVM merges those of neighbouring dimensions into one, and loses the carry between them.
        return tirx.Select(i < shift, i + (shape[d] - shift), i - shift) if shift else i

    return _moved(emit, x, "roll", source)


def _moved(emit: Emit, x: Expr, name: str, source: Any) -> Var:
    """A tensor of the same shape whose element at i comes from ``source(d, i[d])`` in each dimension d."""

    def compute(tensor: te.Tensor) -> te.Tensor:
        return te.compute(tensor.shape, lambda *i: tensor(*(source(d, at) for d, at in enumerate(i))), name=name)

    return emit.te(compute, x, name=name)

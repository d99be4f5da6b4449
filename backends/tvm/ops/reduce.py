"""Reductions over dimensions. Sums, means and products of float16 tensors accumulate in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from tvm import relax, te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, axes, axis, constant, dtype_of, shape_of
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten
Dims = Sequence[int] | int | None
Reduction = Callable[..., Expr]

_ANY: tuple[OpOverload, ...] = (aten.any.default, aten.any.dim, aten.any.dims)
_ALL: tuple[OpOverload, ...] = (aten.all.default, aten.all.dim, aten.all.dims)


@lowers(aten.sum.default, aten.sum.dim_IntList)
def sum_(emit: Emit, x: Expr, dims: Dims = None, keepdim: bool = False) -> Expr:
    """The sum over some dimensions; all of them when none is given."""
    return emit.cast(total(emit, x, dims, keepdim), emit.dtype)


@lowers(aten.mean.default, aten.mean.dim)
def mean(emit: Emit, x: Expr, dims: Dims = None, keepdim: bool = False) -> Expr:
    """The mean over some dimensions."""
    return emit.cast(average(emit, x, dims, keepdim), emit.dtype)


def total(emit: Emit, x: Expr, dims: Dims, keepdim: bool = False) -> Expr:
    """The sum, left in the accumulator's dtype (`emit.wide`)."""
    return reduced(emit, relax.op.sum, emit.cast(x, emit.wide), dims, keepdim)


def average(emit: Emit, x: Expr, dims: Dims, keepdim: bool = False) -> Expr:
    """The mean, left in the accumulator's dtype (`emit.wide`)."""
    count = math.prod(shape_of(x)[dim] for dim in axes(dims, len(shape_of(x))))
    return emit(relax.op.divide(total(emit, x, dims, keepdim), constant(count, emit.wide)))


def reduced(emit: Emit, reduction: Reduction, x: Expr, dims: Dims, keepdim: bool) -> Expr:
    """One Relax reduction; the identity on a rank-0 tensor."""
    rank = len(shape_of(x))
    return emit(reduction(x, axes(dims, rank), keepdim)) if rank else x


@lowers(aten.var.correction)
def variance(emit: Emit, x: Expr, dims: Dims = None, correction: float | None = None, keepdim: bool = False) -> Expr:
    """The mean square distance from the mean, in two sweeps; `correction` is taken off the count (1 when None)."""
    centre = average(emit, x, dims, keepdim=True)
    distance = emit(relax.op.subtract(emit.cast(x, emit.wide), centre))
    squares = total(emit, emit(relax.op.multiply(distance, distance)), dims, keepdim)
    count = math.prod(shape_of(x)[dim] for dim in axes(dims, len(shape_of(x))))
    divisor = count - (1 if correction is None else correction)
    return emit.cast(emit(relax.op.divide(squares, constant(divisor, emit.wide))), emit.dtype)


@lowers(aten.prod.default, aten.prod.dim_int)
def product(emit: Emit, x: Expr, dim: Dims = None, keepdim: bool = False) -> Expr:
    """The product over one dimension or all."""
    return emit.cast(reduced(emit, relax.op.prod, emit.cast(x, emit.wide), dim, keepdim), emit.dtype)


@lowers(aten.amax.default, aten.max.default)
def amax(emit: Emit, x: Expr, dims: Dims = None, keepdim: bool = False) -> Expr:
    """The largest element over some dimensions."""
    return _extreme(emit, relax.op.max, x, dims, keepdim)


@lowers(aten.amin.default, aten.min.default)
def amin(emit: Emit, x: Expr, dims: Dims = None, keepdim: bool = False) -> Expr:
    """The smallest element over some dimensions."""
    return _extreme(emit, relax.op.min, x, dims, keepdim)


@lowers(*_ANY, *_ALL)
def any_or_all(emit: Emit, x: Expr, dims: Dims = None, keepdim: bool = False) -> Expr:
    """Whether any, or every, element is not zero."""
    truth = emit.cast(x, "bool")
    return _extreme(emit, relax.op.max if emit.target in _ANY else relax.op.min, truth, dims, keepdim)


def _extreme(emit: Emit, reduction: Reduction, x: Expr, dims: Dims, keepdim: bool) -> Expr:
    held = dtype_of(x)
    result = reduced(emit, reduction, emit.cast(x, "int8" if held == "bool" else held), dims, keepdim)
    return emit.cast(result, held)


@lowers(aten.max.dim)
def max_with_position(emit: Emit, x: Expr, dim: int, keepdim: bool = False) -> tuple[Expr, Expr]:
    """The largest elements over a dimension, and where they are."""
    return _with_position(emit, relax.op.max, x, dim, keepdim)


@lowers(aten.min.dim)
def min_with_position(emit: Emit, x: Expr, dim: int, keepdim: bool = False) -> tuple[Expr, Expr]:
    """The smallest elements over a dimension, and where they are."""
    return _with_position(emit, relax.op.min, x, dim, keepdim)


@lowers(aten.argmax.default)
def argmax(emit: Emit, x: Expr, dim: int | None = None, keepdim: bool = False) -> Expr:
    """Where the largest element is; over the flattened tensor when `dim` is None."""
    return _position(emit, relax.op.max, x, dim, keepdim)


@lowers(aten.argmin.default)
def argmin(emit: Emit, x: Expr, dim: int | None = None, keepdim: bool = False) -> Expr:
    """Where the smallest element is; over the flattened tensor when `dim` is None."""
    return _position(emit, relax.op.min, x, dim, keepdim)


def _position(emit: Emit, reduction: Reduction, x: Expr, dim: int | None, keepdim: bool) -> Expr:
    if dim is None:
        x = emit.reshape(x, (math.prod(shape_of(x)),))
    return emit.reshape(_with_position(emit, reduction, x, dim or 0, keepdim)[1], emit.shape)


def _with_position(emit: Emit, reduction: Reduction, x: Expr, dim: int, keepdim: bool) -> tuple[Expr, Expr]:
    """An extreme element of each line and the first position that holds it, as two plain reductions."""
    shape = shape_of(x)
    if not shape:
        return x, constant(0, "int64")
    dim, count = axis(dim, len(shape)), shape[axis(dim, len(shape))]
    extreme = _extreme(emit, reduction, x, [dim], keepdim=True)

    def compute(tensor: te.Tensor, best: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, count), "k")
        last = tirx.const(count - 1, "int64")

        def element(*i: Any) -> Any:
            at = (*i[:dim], k, *i[dim + 1 :])
            return te.min(tirx.if_then_else(tensor(*at) == best(*i), k.astype("int64"), last), axis=k)

        return te.compute(best.shape, element, name="position")

    position = emit.te(compute, x, extreme, name="position")
    if keepdim:
        return extreme, position
    lines = shape[:dim] + shape[dim + 1 :]
    return emit.reshape(extreme, lines), emit.reshape(position, lines)

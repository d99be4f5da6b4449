"""Normalisations.

Statistics are computed in float32, in two sweeps (the mean, then the mean square distance from it), which does not
cancel the way E[x²] - E[x]² does.

A layer norm has many short rows: one kernel with one thread group per row. A group norm has few rows, each as long as
an image: its statistics are summed in pieces, so that all of the device works, and the normalisation itself is
elementwise and fuses with the activation that follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import relax, te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, axis, constant, shape_of
from penstock.backends.tvm.ops.reduce import total
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten

_PIECE = 4096
"""Elements that one thread group sums, at most."""


@lowers(aten.layer_norm.default)
def layer_norm(
    emit: Emit,
    x: Expr,
    normalized_shape: Sequence[int],
    weight: Expr | None = None,
    bias: Expr | None = None,
    epsilon: float = 1e-5,
    cudnn_enable: bool = True,
) -> Expr:
    """Mean 0 and variance 1 over the last dimensions, then an elementwise scale and shift."""
    width = math.prod(normalized_shape)

    def compute(tensor: te.Tensor) -> te.Tensor:
        return _normalized_rows(tensor, width, epsilon, emit.wide)

    return _affine(emit, _on_rows(emit, compute, x, width, "layer_norm"), weight, bias)


def _normalized_rows(tensor: te.Tensor, width: int, epsilon: float, dtype: str) -> te.Tensor:
    """Rows (the last dimension) with mean 0 and variance 1."""
    rows = tensor.shape[:-1]

    def at(*i: Any) -> Any:
        return tensor(*i).astype(dtype)

    k = te.reduce_axis((0, width), "k")
    total_ = te.compute(rows, lambda *i: te.sum(at(*i, k), axis=k), name="total")
    mean = te.compute(rows, lambda *i: total_(*i) / float(width), name="mean")
    j = te.reduce_axis((0, width), "j")
    squares = te.compute(
        rows, lambda *i: te.sum((at(*i, j) - mean(*i)) * (at(*i, j) - mean(*i)), axis=j), name="squares"
    )

    def element(*i: Any) -> Any:
        return (at(*i) - mean(*i[:-1])) * tirx.rsqrt(squares(*i[:-1]) / float(width) + epsilon)

    return te.compute(tensor.shape, element, name="normalized")


@lowers(aten.group_norm.default)
def group_norm(
    emit: Emit,
    x: Expr,
    groups: int,
    weight: Expr | None = None,
    bias: Expr | None = None,
    epsilon: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Expr:
    """Mean 0 and variance 1 over groups of channels of [batch, channel, *space]; then scale and shift per channel."""
    batch, channels = emit.shape[:2]
    width = math.prod(emit.shape[1:]) // groups
    piece = _piece(width)
    pieces = emit.reshape(x, (batch * groups, width // piece, piece))
    count = constant(width, emit.wide)
    mean = emit(relax.op.divide(_sum_of_pieces(emit, pieces), count))
    distance = emit(relax.op.subtract(emit.cast(pieces, emit.wide), mean))
    squares = _sum_of_pieces(emit, emit(relax.op.multiply(distance, distance)))
    deviation = emit(relax.op.add(emit(relax.op.divide(squares, count)), constant(epsilon, emit.wide)))
    scale = emit(relax.op.rsqrt(deviation))

    per_group = channels // groups

    def normalize(tensor: te.Tensor, means: te.Tensor, scales: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            row = i[0] * groups + tirx.floordiv(i[1], per_group)
            return (tensor(*i).astype(emit.wide) - means(row, 0, 0)) * scales(row, 0, 0)

        return te.compute(emit.shape, element, name="group_norm")

    result = emit.te(normalize, x, mean, scale, name="group_norm")
    per_channel = (1, channels, *[1] * (len(emit.shape) - 2))
    weight, bias = (None if tensor is None else emit.reshape(tensor, per_channel) for tensor in (weight, bias))
    return _affine(emit, result, weight, bias)


def _piece(width: int) -> int:
    """The largest divisor of a row's length that is no more than `_PIECE`; the whole row if only tiny ones exist."""
    divisor = next(size for size in range(min(width, _PIECE), 0, -1) if width % size == 0)
    return divisor if divisor >= 64 else width


def _sum_of_pieces(emit: Emit, pieces: Expr) -> Expr:
    """[row, piece, element] to [row, 1, 1]."""
    sums = total(emit, pieces, 2, keepdim=True)
    return sums if shape_of(sums)[1] == 1 else total(emit, sums, 1, keepdim=True)


def _affine(emit: Emit, x: Expr, weight: Expr | None, bias: Expr | None) -> Expr:
    if weight is not None:
        x = emit(relax.op.multiply(x, emit.cast(weight, emit.wide)))
    if bias is not None:
        x = emit(relax.op.add(x, emit.cast(bias, emit.wide)))
    return emit.cast(x, emit.dtype)


@lowers(aten.softmax.int, aten._softmax.default)
def softmax(emit: Emit, x: Expr, dim: int, half_to_float: bool = False) -> Expr:
    """exp(x) / sum exp(x) along a dimension."""
    return _exponential(emit, x, dim, lambda shifted, total: tirx.exp(shifted) / total, "softmax")


@lowers(aten.log_softmax.int, aten._log_softmax.default)
def log_softmax(emit: Emit, x: Expr, dim: int, half_to_float: bool = False) -> Expr:
    """The logarithm of softmax."""
    return _exponential(emit, x, dim, lambda shifted, total: shifted - tirx.log(total), "log_softmax")


def _exponential(emit: Emit, x: Expr, dim: int, function: Callable[[Any, Any], Any], name: str) -> Expr:
    """A function of (x - its line's maximum, the line's sum of exponentials of that), as one kernel.

    The exponentials are computed twice, so that nothing as long as a line is kept between the sweeps.
    """
    dim, rank = axis(dim, len(emit.shape)), len(emit.shape)
    order = [d for d in range(rank) if d != dim] + [dim] * (rank > 0)
    moved = _permuted(emit, x, order)
    width = shape_of(moved)[-1] if rank else 1

    def compute(tensor: te.Tensor) -> te.Tensor:
        def at(*i: Any) -> Any:
            return tensor(*i).astype(emit.wide)

        k = te.reduce_axis((0, width), "k")
        largest = te.compute(tensor.shape[:-1], lambda *i: te.max(at(*i, k), axis=k), name="largest")
        j = te.reduce_axis((0, width), "j")
        total = te.compute(
            tensor.shape[:-1], lambda *i: te.sum(tirx.exp(at(*i, j) - largest(*i)), axis=j), name="exponentials"
        )
        return te.compute(tensor.shape, lambda *i: function(at(*i) - largest(*i[:-1]), total(*i[:-1])), name=name)

    result = emit.cast(_on_rows(emit, compute, moved, width, name), emit.dtype)
    return _permuted(emit, result, [order.index(d) for d in range(rank)])


def _on_rows(emit: Emit, compute: Callable[[te.Tensor], te.Tensor], x: Expr, width: int, name: str) -> Expr:
    """One kernel over rows of `width` elements. A single row counts as one of several: schedules want a row axis."""
    shape = shape_of(x)
    rows = shape if len(shape) > 1 and shape[-1] == width else (math.prod(shape) // width, width)
    return emit.reshape(emit.te(compute, emit.reshape(x, rows), name=name), shape)


def _permuted(emit: Emit, x: Expr, order: Sequence[int]) -> Expr:
    return x if list(order) == sorted(order) else emit(relax.op.permute_dims(x, list(order)))

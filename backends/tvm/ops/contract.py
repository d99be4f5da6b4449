"""Matrix products. float16 operands accumulate in float32; the cast back is fused into the kernel's epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tvm import relax, te

from penstock.backends.tvm.ops.emit import (
    OUT_ELEMENTWISE_FUSABLE,
    Emit,
    Expr,
    Number,
    Var,
    broadcast_read,
    constant,
    dtype_of,
    shape_of,
)
from penstock.backends.tvm.ops.packed import packed_linear
from penstock.backends.tvm.ops.registry import lowers
from penstock.backends.tvm.ops.scan import on_gpu
from penstock.backends.tvm.panels import Panels
from penstock.backends.tvm.schedules.cpu.contraction import CONTRACTION
from penstock.backends.tvm.schedules.cpu.matmul import MATMUL

aten = torch.ops.aten


@lowers(aten.linear.default)
def linear(emit: Emit, x: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    """``x · weightᵀ + bias`` over the last dimension. The kernel reads the weight as it lies: nothing is transposed."""
    x = emit.cast(x, emit.dtype)
    if on_gpu() and len(shape_of(weight)) == 2:
        product = packed_linear(emit, x, emit.cast(weight, emit.dtype))
    elif emit.panels is not None and dtype_of(weight) == emit.dtype:
        product = _by_panels(emit, x, shape_of(weight)[0])
    else:
        product = _by_columns(emit, x, emit.cast(weight, emit.dtype))
    return finish(emit, product, bias)


@lowers(aten.matmul.default, aten.mm.default, aten.bmm.default)
def matmul(emit: Emit, left: Expr, right: Expr) -> Expr:
    """A matrix product, with leading dimensions broadcast; vectors as torch takes them."""
    return emit.cast(product(emit, left, right), emit.dtype)


@lowers(aten.addmm.default, aten.baddbmm.default)
def addmm(emit: Emit, x: Expr, left: Expr, right: Expr, beta: Number = 1, alpha: Number = 1) -> Expr:
    """``beta · x + alpha · left · right``."""
    scaled = _times(emit, product(emit, left, right), alpha)
    if beta == 0:
        return emit.cast(scaled, emit.dtype)
    return finish(emit, scaled, _times(emit, emit.cast(x, emit.wide), beta))


def product(emit: Emit, left: Expr, right: Expr) -> Var:
    """A matrix product, left in the accumulator's dtype (`emit.wide`)."""
    if emit.panels is not None and len(shape_of(left)) > 1:
        return _by_panels(emit, left, shape_of(right)[1])
    if on_gpu() or min(len(shape_of(left)), len(shape_of(right))) < 2:
        out_dtype = emit.wide if dtype_of(left) != emit.wide else None
        return emit(relax.op.matmul(left, right, out_dtype=out_dtype))
    return _by_rows(emit, left, right)


def finish(emit: Emit, accumulated: Expr, bias: Expr | None) -> Expr:
    """Add a bias to an accumulator, then cast to the result's dtype."""
    if bias is not None:
        accumulated = emit(relax.op.add(accumulated, emit.cast(bias, emit.wide)))
    return emit.cast(accumulated, emit.dtype)


def _by_panels(emit: Emit, x: Expr, columns: int) -> Var:
    """A product of [*rows, depth] and a weight that is packed."""
    depth = shape_of(x)[-1]
    panels = Panels.current()
    assert panels is not None

    def compute(left: te.Tensor, packed: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")
        return _sums(
            (*shape_of(x)[:-1], columns),
            lambda *i: te.sum(
                _wide(emit, left(*i[:-1], k)) * _wide(emit, packed(panels.place(columns, depth, i[-1], k))), axis=k
            ),
            right="panels",
        )

    return emit.te(compute, x, emit.panels, name="linear", op_pattern=OUT_ELEMENTWISE_FUSABLE)


def _by_columns(emit: Emit, x: Expr, weight: Expr) -> Var:
    """A product of [*rows, depth] and [columns, depth], or [depth]."""
    depth = shape_of(x)[-1]

    def compute(left: te.Tensor, right: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")
        if len(right.shape) == 1:
            return te.compute(
                emit.shape, lambda *i: te.sum(_wide(emit, left(*i, k)) * _wide(emit, right(k)), axis=k), name="linear"
            )
        return _sums(
            emit.shape,
            lambda *i: te.sum(_wide(emit, left(*i[:-1], k)) * _wide(emit, right(i[-1], k)), axis=k),
            right="columns",
        )

    return emit.te(compute, x, weight, name="linear")


def _by_rows(emit: Emit, left: Expr, right: Expr) -> Var:
    """A product of [*batch, rows, depth] and [*batch, depth, columns], leading dimensions broadcast."""
    depth, columns = shape_of(right)[-2:]
    lead = np.broadcast_shapes(shape_of(left)[:-2], shape_of(right)[:-2])
    if all(extent == 1 for extent in shape_of(right)[:-2]):
        right = emit.reshape(right, (depth, columns))
    shape = (*lead, shape_of(left)[-2], columns)

    def compute(a: te.Tensor, b: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")
        return _sums(
            shape,
            lambda *i: te.sum(
                _wide(emit, broadcast_read(a, (*i[:-1], k))) * _wide(emit, broadcast_read(b, (*i[:-2], k, i[-1]))),
                axis=k,
            ),
            right="rows",
            batch=len(lead) if len(shape_of(right)) > 2 else 0,
        )

    return emit.te(compute, left, right, name="matmul", op_pattern=OUT_ELEMENTWISE_FUSABLE)


def _sums(shape: Sequence[int], function: Any, right: str, batch: int = 0) -> te.Tensor:
    """A contraction that says of itself what it is, for the rules of schedules."""
    about = {CONTRACTION: MATMUL, f"{CONTRACTION}.right": right, f"{CONTRACTION}.batch": batch}
    return te.compute(tuple(shape), function, name="product", attrs=None if on_gpu() else about)


def _times(emit: Emit, x: Expr, factor: Number) -> Expr:
    return x if factor == 1 else emit(relax.op.multiply(x, constant(factor, emit.wide)))


def _wide(emit: Emit, element: Any) -> Any:
    return element if emit.wide == emit.dtype else element.astype(emit.wide)

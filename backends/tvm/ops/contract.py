"""Matrix products. float16 operands accumulate in float32; the cast back is fused into the kernel's epilogue."""

from __future__ import annotations

from typing import Any

import torch
from tvm import relax, te

from penstock.backends.tvm.ops.emit import Emit, Expr, Number, Var, constant, dtype_of, shape_of
from penstock.backends.tvm.ops.packed import packed_linear
from penstock.backends.tvm.ops.registry import lowers
from penstock.backends.tvm.ops.scan import on_gpu

aten = torch.ops.aten


@lowers(aten.linear.default)
def linear(emit: Emit, x: Expr, weight: Expr, bias: Expr | None = None) -> Expr:
    """``x · weightᵀ + bias`` over the last dimension. The kernel reads the weight as it lies: nothing is transposed."""
    if on_gpu() and len(shape_of(weight)) == 2:
        return finish(emit, packed_linear(emit, emit.cast(x, emit.dtype), emit.cast(weight, emit.dtype)), bias)
    depth = shape_of(x)[-1]

    def compute(left: te.Tensor, right: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")
        if len(right.shape) == 1:
            return te.compute(
                emit.shape, lambda *i: te.sum(_wide(emit, left(*i, k)) * _wide(emit, right(k)), axis=k), name="linear"
            )
        return te.compute(
            emit.shape,
            lambda *i: te.sum(_wide(emit, left(*i[:-1], k)) * _wide(emit, right(i[-1], k)), axis=k),
            name="linear",
        )

    product = emit.te(compute, emit.cast(x, emit.dtype), emit.cast(weight, emit.dtype), name="linear")
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
    out_dtype = emit.wide if dtype_of(left) != emit.wide else None
    return emit(relax.op.matmul(left, right, out_dtype=out_dtype))


def finish(emit: Emit, accumulated: Expr, bias: Expr | None) -> Expr:
    """Add a bias to an accumulator, then cast to the result's dtype."""
    if bias is not None:
        accumulated = emit(relax.op.add(accumulated, emit.cast(bias, emit.wide)))
    return emit.cast(accumulated, emit.dtype)


def _times(emit: Emit, x: Expr, factor: Number) -> Expr:
    return x if factor == 1 else emit(relax.op.multiply(x, constant(factor, emit.wide)))


def _wide(emit: Emit, element: Any) -> Any:
    return element if emit.wide == emit.dtype else element.astype(emit.wide)

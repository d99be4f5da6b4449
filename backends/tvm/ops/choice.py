"""Operators that pick an element or keep it as it is: where, clamp, another dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tvm import relax, tirx

from penstock.backends.tvm.ops.binary import apply
from penstock.backends.tvm.ops.emit import Emit, Expr, Value, is_expr
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten


@lowers(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf)
def where(emit: Emit, condition: Expr, left: Value, right: Value) -> Expr:
    """``left`` where the condition holds, else ``right``. Numbers become part of the kernel."""
    return choose(emit, condition, left, right, emit.shape)


def choose(emit: Emit, condition: Expr, left: Value, right: Value, shape: Sequence[int]) -> Expr:
    """`where` with the result's dtype, in another shape than the result's."""
    sides = [emit.cast(side, emit.dtype) if is_expr(side) else tirx.const(side, emit.dtype) for side in (left, right)]
    return emit.elementwise(tirx.Select, emit.cast(condition, "bool"), *sides, shape=shape, name="where")


@lowers(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(emit: Emit, x: Expr, mask: Expr, value: Value) -> Expr:
    """The value where the mask holds, else ``x``."""
    return where(emit, mask, value, x)


@lowers(aten.clamp.default, aten.clamp.Tensor)
def clamp(emit: Emit, x: Expr, low: Value = None, high: Value = None) -> Expr:
    """``x`` kept between two bounds, either of which may be missing."""
    result = x
    if low is not None:
        result = apply(emit, relax.op.maximum, result, low)
    if high is not None:
        result = apply(emit, relax.op.minimum, result, high)
    return result


@lowers(aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp_min(emit: Emit, x: Expr, low: Value) -> Expr:
    """``x``, or the bound where that is more."""
    return clamp(emit, x, low=low)


@lowers(aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(emit: Emit, x: Expr, high: Value) -> Expr:
    """``x``, or the bound where that is less."""
    return clamp(emit, x, high=high)


@lowers(aten._to_copy.default)
def to_copy(emit: Emit, x: Expr) -> Expr:
    """Another dtype. A float becomes an integer by truncation."""
    return emit.cast(x, emit.dtype)

"""Elementwise operators of two tensors, or of a tensor and a number, with broadcasting.

The result's dtype, which torch has inferred, is the dtype of the computation; comparisons compute in the dtype to which
torch promotes both operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tvm import relax

from penstock.backends.tvm.ops.emit import (
    Emit,
    Expr,
    Value,
    constant,
    is_expr,
    is_float,
    promoted,
)
from penstock.backends.tvm.ops.registry import RefusalError, lowers

aten = torch.ops.aten
Operation = Callable[[Expr, Expr], Expr]

_BOOLEAN: dict[Operation, Operation] = {
    relax.op.add: relax.op.logical_or,
    relax.op.multiply: relax.op.logical_and,
    relax.op.maximum: relax.op.logical_or,
    relax.op.minimum: relax.op.logical_and,
    relax.op.bitwise_and: relax.op.logical_and,
    relax.op.bitwise_or: relax.op.logical_or,
    relax.op.bitwise_xor: relax.op.logical_xor,
}
"""What arithmetic means on booleans."""

_PLAIN: dict[Any, Operation] = {
    aten.mul.Tensor: relax.op.multiply,
    aten.mul.Scalar: relax.op.multiply,
    aten.maximum.default: relax.op.maximum,
    aten.minimum.default: relax.op.minimum,
    aten.bitwise_and.Tensor: relax.op.bitwise_and,
    aten.bitwise_and.Scalar: relax.op.bitwise_and,
    aten.bitwise_or.Tensor: relax.op.bitwise_or,
    aten.bitwise_or.Scalar: relax.op.bitwise_or,
    aten.bitwise_xor.Tensor: relax.op.bitwise_xor,
    aten.bitwise_xor.Scalar: relax.op.bitwise_xor,
    aten.__lshift__.Tensor: relax.op.left_shift,
    aten.__lshift__.Scalar: relax.op.left_shift,
    aten.__rshift__.Tensor: relax.op.right_shift,
    aten.__rshift__.Scalar: relax.op.right_shift,
    aten.bitwise_left_shift.Tensor: relax.op.left_shift,
    aten.bitwise_right_shift.Tensor: relax.op.right_shift,
}

_COMPARISONS: dict[Any, Operation] = {
    aten.eq.Tensor: relax.op.equal,
    aten.eq.Scalar: relax.op.equal,
    aten.ne.Tensor: relax.op.equal,
    aten.ne.Scalar: relax.op.equal,
    aten.lt.Tensor: relax.op.less,
    aten.lt.Scalar: relax.op.less,
    aten.le.Tensor: relax.op.less_equal,
    aten.le.Scalar: relax.op.less_equal,
    aten.gt.Tensor: relax.op.greater,
    aten.gt.Scalar: relax.op.greater,
    aten.ge.Tensor: relax.op.greater_equal,
    aten.ge.Scalar: relax.op.greater_equal,
}

_LOGICAL: dict[Any, Operation] = {
    aten.logical_and.default: relax.op.logical_and,
    aten.logical_or.default: relax.op.logical_or,
    aten.logical_xor.default: relax.op.logical_xor,
}


def apply(emit: Emit, operation: Operation, left: Value, right: Value, dtype: str | None = None) -> Expr:
    """One binary operation in `dtype` (the result's when None)."""
    dtype = dtype or emit.dtype
    if dtype == "bool":
        operation = _BOOLEAN.get(operation, operation)
    return emit(operation(emit.operand(left, dtype), emit.operand(right, dtype)))


@lowers(*_PLAIN)
def plain(emit: Emit, left: Value, right: Value) -> Expr:
    """One Relax operator in the result's dtype."""
    return apply(emit, _PLAIN[emit.target], left, right)


@lowers(*_COMPARISONS)
def compare(emit: Emit, left: Value, right: Value) -> Expr:
    """A comparison in the promoted dtype; booleans compare as small integers.

    "Not equal" is the negation of "equal": TVM's own is false for NaN on a CPU.
    """
    target, dtype = emit.target, promoted(left, right)
    result = apply(emit, _COMPARISONS[target], left, right, "int8" if dtype == "bool" else dtype)
    return emit.negated(result) if target in (aten.ne.Tensor, aten.ne.Scalar) else result


@lowers(*_LOGICAL)
def logical(emit: Emit, left: Value, right: Value) -> Expr:
    """A logical operation on which elements are not zero."""
    return apply(emit, _LOGICAL[emit.target], left, right)


@lowers(aten.add.Tensor, aten.add.Scalar)
def add(emit: Emit, left: Value, right: Value, alpha: float = 1) -> Expr:
    """``left + alpha · right``."""
    return apply(emit, relax.op.add, left, _scaled(emit, right, alpha))


@lowers(aten.sub.Tensor, aten.sub.Scalar)
def subtract(emit: Emit, left: Value, right: Value, alpha: float = 1) -> Expr:
    """``left - alpha · right``."""
    return apply(emit, relax.op.subtract, left, _scaled(emit, right, alpha))


@lowers(aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(emit: Emit, left: Value, right: Value, alpha: float = 1) -> Expr:
    """``right - alpha · left``."""
    return apply(emit, relax.op.subtract, right, _scaled(emit, left, alpha))


def _scaled(emit: Emit, value: Value, alpha: float) -> Value:
    if alpha == 1:
        return value
    return apply(emit, relax.op.multiply, value, alpha) if is_expr(value) else value * alpha


@lowers(aten.div.Tensor, aten.div.Scalar, aten.div.Tensor_mode, aten.div.Scalar_mode)
def divide(emit: Emit, left: Value, right: Value, rounding_mode: str | None = None) -> Expr:
    """``left / right``: true, rounded down (``floor``) or towards zero (``trunc``)."""
    if not is_float(emit.dtype):
        return apply(emit, relax.op.floor_divide if rounding_mode == "floor" else relax.op.divide, left, right)
    quotient = apply(emit, relax.op.divide, left, right)
    if rounding_mode is None:
        return quotient
    return emit(relax.op.floor(quotient) if rounding_mode == "floor" else relax.op.trunc(quotient))


@lowers(aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor)
def remainder(emit: Emit, left: Value, right: Value) -> Expr:
    """The remainder with the sign of the divisor."""
    if not is_float(emit.dtype):
        return apply(emit, relax.op.floor_mod, left, right)
    return _float_remainder(emit, left, right, relax.op.floor)


@lowers(aten.fmod.Tensor, aten.fmod.Scalar)
def fmod(emit: Emit, left: Value, right: Value) -> Expr:
    """The remainder with the sign of the dividend."""
    if not is_float(emit.dtype):
        return apply(emit, relax.op.mod, left, right)
    return _float_remainder(emit, left, right, relax.op.trunc)


def _float_remainder(emit: Emit, left: Value, right: Value, rounding: Callable[[Expr], Expr]) -> Expr:
    dividend, divisor = emit.operand(left, emit.wide), emit.operand(right, emit.wide)
    quotient = emit(rounding(emit(relax.op.divide(dividend, divisor))))
    remainder = emit(relax.op.subtract(dividend, emit(relax.op.multiply(quotient, divisor))))
    return emit.cast(remainder, emit.dtype)


@lowers(aten.atan2.default)
def atan2(emit: Emit, left: Expr, right: Expr) -> Expr:
    """The angle of the point (right, left)."""
    return emit.cast(apply(emit, relax.op.atan2, left, right, emit.wide), emit.dtype)


@lowers(aten.pow.Tensor_Scalar)
def power_of_number(emit: Emit, base: Expr, exponent: float) -> Expr:
    """A power with a known exponent: by multiplications and roots where they do, as GPUs' pow is slow and coarse."""
    base = emit.cast(base, emit.wide)
    if exponent == 0:
        return emit.full(1, emit.shape, emit.dtype)
    if not is_float(emit.dtype) and exponent < 0:
        raise RefusalError("a negative power of integers", "cast the tensor to float32 first")
    if not is_float(emit.dtype) or (exponent == int(exponent) and abs(exponent) <= 64):
        result = _whole_power(emit, base, abs(int(exponent)))
        inverted = exponent < 0
    elif abs(exponent) == 0.5:
        return emit.cast(emit((relax.op.sqrt if exponent > 0 else relax.op.rsqrt)(base)), emit.dtype)
    else:
        result, inverted = emit(relax.op.power(base, constant(exponent, emit.wide))), False
    if inverted:
        result = emit(relax.op.divide(constant(1, emit.wide), result))
    return emit.cast(result, emit.dtype)


def _whole_power(emit: Emit, base: Expr, exponent: int) -> Expr:
    """By repeated squaring; `exponent` is at least 1."""
    result = None
    while True:
        if exponent % 2:
            result = base if result is None else emit(relax.op.multiply(result, base))
        exponent //= 2
        if not exponent:
            return result
        base = emit(relax.op.multiply(base, base))


@lowers(aten.pow.Tensor_Tensor, aten.pow.Scalar)
def power(emit: Emit, base: Value, exponent: Value) -> Expr:
    """A power with an exponent known at run time."""
    if not is_float(emit.dtype):
        raise RefusalError("an integer power whose exponent is a tensor", "cast one of the tensors to float32 first")
    return emit.cast(apply(emit, relax.op.power, base, exponent, emit.wide), emit.dtype)

"""Elementwise operators of one tensor.

Transcendental functions compute in float32 for float16 tensors: phones have no half-precision unit for them, and the
casts cost nothing inside a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from tvm import relax, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, Var, constant, dtype_of, is_float
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten

_EXACT: dict[Any, Callable[[Expr], Expr]] = {
    aten.neg.default: relax.op.negative,
    aten.abs.default: relax.op.abs,
    aten.relu.default: relax.op.nn.relu,
    aten.sign.default: relax.op.sign,
}
"""Computed in the tensor's own dtype."""

_ROUNDING: dict[Any, Callable[[Expr], Expr]] = {
    aten.floor.default: relax.op.floor,
    aten.ceil.default: relax.op.ceil,
    aten.round.default: relax.op.round,
    aten.trunc.default: relax.op.trunc,
}
"""The identity on integers."""

_WIDE: dict[Any, Callable[[Expr], Expr]] = {
    aten.exp.default: relax.op.exp,
    aten.log.default: relax.op.log,
    aten.sqrt.default: relax.op.sqrt,
    aten.rsqrt.default: relax.op.rsqrt,
    aten.sin.default: relax.op.sin,
    aten.cos.default: relax.op.cos,
    aten.tan.default: relax.op.tan,
    aten.tanh.default: relax.op.tanh,
    aten.sinh.default: relax.op.sinh,
    aten.cosh.default: relax.op.cosh,
    aten.asin.default: relax.op.asin,
    aten.acos.default: relax.op.acos,
    aten.atan.default: relax.op.atan,
    aten.acosh.default: relax.op.acosh,
    aten.atanh.default: relax.op.atanh,
    aten.erf.default: relax.op.erf,
    aten.sigmoid.default: relax.op.sigmoid,
    aten.silu.default: relax.op.nn.silu,
}
"""Computed in float32 at least."""


def wide(emit: Emit, x: Expr, function: Callable[[Expr], Expr]) -> Expr:
    """Apply a function in float32 where the result is float16, and cast back."""
    return emit.cast(emit(function(emit.cast(x, emit.wide))), emit.dtype)


def scalarwise(emit: Emit, x: Expr, function: Callable[[Any], Any], name: str) -> Expr:
    """Apply a function of one TIR scalar to each element, in float32 where the result is float16."""
    return emit.cast(emit.elementwise(function, emit.cast(x, emit.wide), shape=emit.shape, name=name), emit.dtype)


@lowers(*_EXACT)
def exact(emit: Emit, x: Expr) -> Expr:
    """One Relax operator on the dtype as it is."""
    return emit(_EXACT[emit.target](x))


@lowers(*_ROUNDING)
def rounding(emit: Emit, x: Expr) -> Expr:
    """Rounding to an integer; `round` takes halves to the even neighbour."""
    return emit(_ROUNDING[emit.target](x)) if is_float(emit.dtype) else x


@lowers(*_WIDE)
def transcendental(emit: Emit, x: Expr) -> Expr:
    """One Relax operator in float32."""
    return wide(emit, x, _WIDE[emit.target])


@lowers(aten.reciprocal.default)
def reciprocal(emit: Emit, x: Expr) -> Var:
    """``1 / x``."""
    return emit(relax.op.divide(constant(1, emit.dtype), emit.cast(x, emit.dtype)))


@lowers(aten.exp2.default)
def exp2(emit: Emit, x: Expr) -> Expr:
    """Two to the power x."""
    return scalarwise(emit, x, tirx.exp2, "exp2")


@lowers(aten.log2.default)
def log2(emit: Emit, x: Expr) -> Expr:
    """Logarithm to base 2."""
    return scalarwise(emit, x, tirx.log2, "log2")


@lowers(aten.log1p.default)
def log1p(emit: Emit, x: Expr) -> Expr:
    """``log(1 + x)`` without the loss near zero: ``2 artanh(x / (2 + x))`` as a series there. Metal has no log1p."""

    def function(value: Any) -> Any:
        t = value / (value + 2.0)
        near = 2.0 * t * _polynomial(t * t, [1 / (2 * k + 1) for k in range(6)])
        return tirx.if_then_else(tirx.abs(value) < 0.25, near, tirx.log(value + 1.0))

    return scalarwise(emit, x, function, "log1p")


@lowers(aten.expm1.default)
def expm1(emit: Emit, x: Expr) -> Expr:
    """``exp(x) - 1`` without the loss near zero."""
    return scalarwise(emit, x, exp_minus_one, "expm1")


def exp_minus_one(value: Any) -> Any:
    """``exp(x) - 1`` of a TIR scalar: the Taylor series near zero. OpenCL and Metal spell no common expm1."""
    near = value * _polynomial(value, [1 / math.factorial(k + 1) for k in range(8)])
    return tirx.if_then_else(tirx.abs(value) < 0.5, near, tirx.exp(value) - 1.0)


@lowers(aten.asinh.default)
def asinh(emit: Emit, x: Expr) -> Expr:
    """Inverse hyperbolic sine, by its odd symmetry: TVM's own formula cancels for negative arguments."""

    def function(value: Any) -> Any:
        positive = tirx.asinh(tirx.abs(value))
        return tirx.if_then_else(value < 0.0, -positive, positive)

    return scalarwise(emit, x, function, "asinh")


@lowers(aten.isnan.default, aten.isinf.default, aten.isfinite.default)
def classify(emit: Emit, x: Expr) -> Var:
    """Which elements are NaN, infinite or finite; every integer is finite."""
    target = emit.target
    if not is_float(dtype_of(x)):
        return emit.full(target == aten.isfinite.default, emit.shape, "bool")
    functions = {
        aten.isnan.default: relax.op.isnan,
        aten.isinf.default: relax.op.isinf,
        aten.isfinite.default: relax.op.isfinite,
    }
    return emit(functions[target](x))


@lowers(aten.logical_not.default)
def logical_not(emit: Emit, x: Expr) -> Var:
    """Which elements are zero."""
    return emit.negated(emit.cast(x, "bool"))


@lowers(aten.bitwise_not.default)
def bitwise_not(emit: Emit, x: Expr) -> Var:
    """Every bit flipped; logical not for booleans."""
    return emit.negated(x) if emit.dtype == "bool" else emit(relax.op.bitwise_not(x))


def _polynomial(x: Any, coefficients: list[float]) -> Any:
    """Coefficients from the constant term up, by Horner's rule."""
    result: Any = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = x * result + coefficient
    return result

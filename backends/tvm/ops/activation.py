"""Activation functions, in float32 for float16 tensors: exponentials leave the range of float16 early."""

from __future__ import annotations

from typing import Any

import torch
from tvm import relax, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, constant
from penstock.backends.tvm.ops.registry import lowers
from penstock.backends.tvm.ops.unary import exp_minus_one, scalarwise, wide

aten = torch.ops.aten


@lowers(aten.gelu.default)
def gelu(emit: Emit, x: Expr, approximate: str = "none") -> Expr:
    """Gaussian error linear unit, exact or by tanh."""
    return wide(emit, x, relax.op.nn.gelu_tanh if approximate == "tanh" else relax.op.nn.gelu)


@lowers(aten.softplus.default)
def softplus(emit: Emit, x: Expr, beta: float = 1, threshold: float = 20) -> Expr:
    """``log(1 + exp(beta · x)) / beta``; ``x`` itself where ``beta · x`` is over the threshold."""
    return wide(emit, x, lambda v: relax.op.nn.softplus(v, float(beta), float(threshold)))


@lowers(aten.mish.default)
def mish(emit: Emit, x: Expr) -> Expr:
    """``x · tanh(softplus(x))``."""

    def function(value: Any) -> Any:
        softplus = tirx.if_then_else(value > 20.0, value, tirx.log(tirx.exp(value) + 1.0))
        return value * tirx.tanh(softplus)

    return scalarwise(emit, x, function, "mish")


@lowers(aten.elu.default)
def elu(emit: Emit, x: Expr, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Expr:
    """``scale · x`` where positive, ``scale · alpha · (exp(input_scale · x) - 1)`` elsewhere."""

    def function(value: Any) -> Any:
        negative = exp_minus_one(value * float(input_scale)) * float(alpha * scale)
        return tirx.if_then_else(value > 0.0, value * float(scale), negative)

    return scalarwise(emit, x, function, "elu")


@lowers(aten.leaky_relu.default)
def leaky_relu(emit: Emit, x: Expr, slope: float = 0.01) -> Expr:
    """``x``, times the slope where negative."""
    return wide(emit, x, lambda v: relax.op.nn.leakyrelu(v, float(slope)))


@lowers(aten.hardsigmoid.default)
def hardsigmoid(emit: Emit, x: Expr) -> Expr:
    """``(x + 3) / 6``, kept between 0 and 1."""
    return wide(emit, x, lambda v: _gate(emit, v))


@lowers(aten.hardswish.default)
def hardswish(emit: Emit, x: Expr) -> Expr:
    """``x · hardsigmoid(x)``."""
    return wide(emit, x, lambda v: relax.op.multiply(v, emit(_gate(emit, v))))


def _gate(emit: Emit, x: Expr) -> Expr:
    shifted = emit(relax.op.add(x, constant(3, emit.wide)))
    clipped = emit(relax.op.clip(shifted, 0.0, 6.0))
    return relax.op.multiply(clipped, constant(1 / 6, emit.wide))

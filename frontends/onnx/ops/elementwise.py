"""Elementwise operators: arithmetic, comparison, logic, bits and mathematical functions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,  # both round halves to even
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}


def _register_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    @onnx_op(name)
    def unary(x: Tensor) -> Tensor:
        return function(x)


def _register_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @onnx_op(name)
    def binary(a: Tensor, b: Tensor) -> Tensor:
        return function(a, b)


for _name, _unary in _UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in _BINARY.items():
    _register_binary(_name, _binary)


@onnx_op("Div")
def div(a: Tensor, b: Tensor) -> Tensor:
    """Integers divide towards zero."""
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


@onnx_op("Mod")
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """The result has the sign of the divisor, or that of the dividend with `fmod`."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@onnx_op("Pow")
def power(a: Tensor, b: Tensor | float) -> Tensor:
    """The result has the dtype of the base."""
    return torch.pow(a, b).to(a.dtype)


@onnx_op("BitShift")
def bit_shift(a: Tensor, b: Tensor, *, direction: str) -> Tensor:
    """Shift left or right, filling with zeros."""
    return torch.bitwise_left_shift(a, b) if direction == "LEFT" else torch.bitwise_right_shift(a, b)


@onnx_op("Clip")
def clip(x: Tensor, low: Tensor | float | None = None, high: Tensor | float | None = None) -> Tensor:
    """Clamp between bounds, each of which may be left out."""
    for bound, clamp in ((low, torch.clamp_min), (high, torch.clamp_max)):
        if bound is not None and not (isinstance(low, float | int) and isinstance(high, float | int)):
            x = clamp(x, bound)
    return torch.clamp(x, low, high) if isinstance(low, float | int) and isinstance(high, float | int) else x


@onnx_op("IsInf")
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Which elements are infinite, on the sides asked for."""
    if detect_negative and detect_positive:
        return torch.isinf(x)
    side = float("inf") if detect_positive else float("-inf")
    return torch.eq(x, side) if detect_positive or detect_negative else torch.zeros_like(x, dtype=torch.bool)


@onnx_op("Where")
def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`a` where the condition holds, else `b`."""
    return torch.where(condition, a, b)


@onnx_op("Max")
def maximum(*tensors: Tensor) -> Tensor:
    """The largest of the tensors at each place."""
    return functools.reduce(torch.maximum, tensors)


@onnx_op("Min")
def minimum(*tensors: Tensor) -> Tensor:
    """The smallest of the tensors at each place."""
    return functools.reduce(torch.minimum, tensors)


@onnx_op("Sum")
def total(*tensors: Tensor) -> Tensor:
    """The sum of the tensors at each place."""
    return functools.reduce(torch.add, tensors)


@onnx_op("Mean")
def mean(*tensors: Tensor) -> Tensor:
    """The mean of the tensors at each place."""
    return torch.div(total(*tensors), len(tensors))


@onnx_op("Identity")
def identity(x: Tensor) -> Tensor:
    """The tensor itself."""
    return x


@onnx_op("Dropout")
def dropout(
    x: Tensor, ratio: float | None = None, training_mode: bool | None = None, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The tensor itself, and a mask that keeps everything: a captured model does not train."""
    if training_mode and ratio != 0:
        raise UnsupportedFormError("it drops at random (training_mode); export the model in evaluation mode")
    return x, torch.ones_like(x, dtype=torch.bool)

"""Activation functions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import onnx_op

_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


@onnx_op("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """``x`` where positive, else ``alpha * x``."""
    return F.leaky_relu(x, alpha)


@onnx_op("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """Leaky ReLU with slopes that broadcast to `x`."""
    return torch.where(x < 0, slope * x, x)


@onnx_op("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x`` where it exceeds alpha, else 0."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


@onnx_op("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``."""
    return F.elu(x, alpha)


@onnx_op("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return F.celu(x, alpha)


@onnx_op("Selu")
def selu(x: Tensor, *, alpha: float = _SELU_ALPHA, gamma: float = _SELU_GAMMA) -> Tensor:
    """Scaled ELU."""
    return F.elu(x, alpha) * gamma


@onnx_op("Gelu", since=20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """``x`` times the normal distribution function of ``x``."""
    return F.gelu(x, approximate=approximate)


@onnx_op("Swish", since=24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@onnx_op("Mish", since=18)
def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return F.mish(x)


@onnx_op("Softplus")
def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return F.softplus(x)


@onnx_op("Softsign")
def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


@onnx_op("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """``alpha * x + beta`` clamped to [0, 1]; torch's operator is the one with alpha = 1/6 and beta = 1/2."""
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0, 1)


@onnx_op("HardSwish", since=14)
def hard_swish(x: Tensor) -> Tensor:
    """``x * clamp(x / 6 + 1/2, 0, 1)``."""
    return F.hardswish(x)


@onnx_op("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """``x`` moved towards 0 by the bias; 0 where it is nearer to 0 than lambd."""
    inside = torch.zeros_like(x)
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, inside))


@onnx_op("Softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Exponentials along an axis, divided by their sum."""
    return torch.softmax(x, axis)


@onnx_op("LogSoftmax")
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """The logarithm of softmax."""
    return torch.log_softmax(x, axis)


@onnx_op("Hardmax")
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first largest element along an axis, 0 elsewhere."""
    first = torch.argmax(x, axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)

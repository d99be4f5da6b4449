"""Normalisations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op


@onnx_op("BatchNormalization")
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    """Normalise each channel by recorded statistics."""
    if training_mode:
        raise UnsupportedFormError("it is in training mode; export the model in evaluation mode")
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


@onnx_op("InstanceNormalization")
def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each sample by its own statistics."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


@onnx_op("GroupNormalization", since=21)
def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Tensor:
    """Normalise groups of channels of each sample; one scale per channel."""
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@onnx_op("GroupNormalization", since=18)
def group_normalization_by_group(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Tensor:
    """Normalise groups of channels of each sample; until opset 20, one scale per group."""
    width = x.shape[1] // num_groups
    return F.group_norm(
        x, num_groups, torch.repeat_interleave(scale, width), torch.repeat_interleave(bias, width), epsilon
    )


@onnx_op("LayerNormalization", since=17)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int,
) -> tuple[Tensor, ...]:
    """Normalise over the dimensions from `axis` on; also gives the mean and the inverse deviation, if asked for."""
    shape = x.shape[axis:]
    if outputs == 1:
        if scale.shape == shape and (bias is None or bias.shape == shape):
            return (F.layer_norm(x, shape, scale, bias, epsilon),)
        plain = F.layer_norm(x, shape, None, None, epsilon) * scale
        return (plain if bias is None else plain + bias,)
    dims = tuple(range(axis % x.dim(), x.dim()))
    wide = x.float() if stash_type == 1 else x
    mean = torch.mean(wide, dims, keepdim=True)
    inverse = torch.rsqrt(torch.mean((wide - mean) ** 2, dims, keepdim=True) + epsilon)
    result = ((wide - mean) * inverse).to(x.dtype) * scale
    return result if bias is None else result + bias, mean, inverse


@onnx_op("RMSNormalization", since=23)
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Divide by the root mean square over the dimensions from `axis` on."""
    shape = tuple(x.shape[axis:])
    if scale.shape == shape:
        return F.rms_norm(x, shape, scale, epsilon)
    return F.rms_norm(x, shape, None, epsilon) * scale


@onnx_op("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the p-norm along an axis; where that is 0, the result is 0."""
    norm = torch.sum(torch.abs(x), axis, keepdim=True) if p == 1 else torch.sqrt(torch.sum(x * x, axis, keepdim=True))
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@onnx_op("LRN")
def local_response_normalization(
    x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Tensor:
    """Divide by the energy of `size` neighbouring channels, of which the odd one comes behind."""
    before = (size - 1) // 2
    squares = F.pad(x * x, [0, 0] * (x.dim() - 2) + [before, size - 1 - before])
    energy = sum((squares.narrow(1, offset, x.shape[1]) for offset in range(size)), torch.zeros_like(x))
    return x / torch.pow(bias + alpha / size * energy, beta)

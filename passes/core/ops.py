"""Operators of penstock's own, which capture never makes, for what is to run in parts.

Halves of a group norm, so that the halves can run apart; causal attention of some of the queries.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("penstock::group_stats", mutates_args=())
def group_stats(x: Tensor, groups: int) -> Tensor:
    """Mean and variance of each group of channels.

    Args:
        x: [batch, channels, …].

    Returns:
        [batch, groups, 2] in float32.
    """
    result = torch.empty((x.shape[0], groups, 2), dtype=torch.float32)
    for sample, row in zip(x, result, strict=True):
        variance, mean = torch.var_mean(sample.reshape(groups, -1).float(), dim=1, correction=0)
        row[:, 0], row[:, 1] = mean, variance
    return result


@group_stats.register_fake
def _(x: Tensor, groups: int) -> Tensor:
    return x.new_empty((x.shape[0], groups, 2), dtype=torch.float32)


@torch.library.custom_op("penstock::group_normalize", mutates_args=())
def group_normalize(x: Tensor, stats: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) · weight + bias, with what `group_stats` gives; computed in float32.

    Args:
        x: [batch, channels, …].
        stats: [batch, groups, 2].
        weight, bias: [channels].
    """
    channels = x.shape[1]
    scale = torch.rsqrt(stats[:, :, 1] + eps).repeat_interleave(channels // stats.shape[1], 1)
    shift = -stats[:, :, 0].repeat_interleave(channels // stats.shape[1], 1) * scale
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    if bias is not None:
        shift = shift + bias
    shape = (x.shape[0], channels, *[1] * (x.ndim - 2))
    return torch.addcmul(shift.view(shape), x.float(), scale.view(shape)).to(x.dtype)


@group_normalize.register_fake
def _(x: Tensor, stats: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.custom_op("penstock::causal_attention", mutates_args=())
def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float | None, enable_gqa: bool
) -> Tensor:
    """Attention in which a query sees the keys from the first up to that of its own position.

    Args:
        query: [*batch, queries, width].
        key: [*batch, keys, width].
        value: [*batch, keys, value width].
        positions: [queries] in int64.
        scale, enable_gqa: as in torch's `scaled_dot_product_attention`.
    """
    seen = positions[:, None] >= torch.arange(key.shape[-2])
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, seen, scale=scale, enable_gqa=enable_gqa
    ).contiguous()


@causal_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float | None, enable_gqa: bool) -> Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


CAUSAL_ATTENTION = torch.ops.penstock.causal_attention.default
GROUP_STATS = torch.ops.penstock.group_stats.default
GROUP_NORMALIZE = torch.ops.penstock.group_normalize.default

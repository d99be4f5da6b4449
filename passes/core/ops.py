"""Operators of penstock's own, which capture never makes, for what is to run in parts.

Halves of a group norm, so that the halves can run apart; causal attention of some of the queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

_AT_ONCE = 1 << 16
"""Elements whose statistics are found at once: so much memory, or that of one group, is needed beside the values."""


@torch.library.custom_op("penstock::group_stats", mutates_args=())
def group_stats(x: Tensor, groups: int) -> Tensor:
    """Mean and variance of each group of channels.

    Args:
        x: [batch, channels, …].

    Returns:
        [batch, groups, 2] in float32; in float64 for such values.
    """
    rows = x.reshape(x.shape[0] * groups, -1)
    if x.is_cuda:  # one kernel, which needs no memory
        mean, inverse = torch.batch_norm_stats(rows[None], 0.0)  # 0 where there is no variance
        variance = torch.where(inverse == 0, 0, inverse.square().reciprocal())
        return torch.stack([mean, variance], dim=1).view(x.shape[0], groups, 2)
    length = rows.shape[1]
    result = x.new_empty((len(rows), 2), dtype=_wide(x))
    at_once = max(1, _AT_ONCE // length)
    for some, made in zip(torch.split(rows, at_once), torch.split(result, at_once), strict=True):
        # Of torch's operators this one finds them fastest, by far; what it normalises is not needed.
        count, held = len(some), some.to(result.dtype).contiguous()  # a part may have gaps between its rows
        _, mean, inverse = torch.native_group_norm(held[None], None, None, 1, count, length, count, 0.0)
        made[:, 0] = mean[0]
        made[:, 1] = inverse[0].square().reciprocal()
    return result.view(x.shape[0], groups, 2)


@group_stats.register_fake
def _(x: Tensor, groups: int) -> Tensor:
    return x.new_empty((x.shape[0], groups, 2), dtype=_wide(x))


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


@torch.library.custom_op("penstock::group_normalize", mutates_args=())
def group_normalize(x: Tensor, stats: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) · weight + bias, with what `group_stats` gives, and in its precision.

    Args:
        x: [batch, channels, …].
        stats: [batch, groups, 2].
        weight, bias: [channels].
    """
    groups = stats.shape[1]
    mean, variance = stats.unbind(2)
    scale = torch.rsqrt(variance + eps)[:, :, None]
    scale = scale.expand(-1, -1, x.shape[1] // groups) if weight is None else scale * weight.view(groups, -1)
    shift = -mean[:, :, None] * scale
    if bias is not None:
        shift = shift + bias.view(groups, -1)
    shape = (x.shape[0], x.shape[1], *[1] * (x.ndim - 2))
    result = torch.empty_like(x, memory_format=torch.contiguous_format)
    return torch.addcmul(shift.reshape(shape), x, scale.reshape(shape), out=result)  # converts element by element


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
    seen = positions[:, None] >= torch.arange(key.shape[-2], device=positions.device)
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, seen, scale=scale, enable_gqa=enable_gqa
    ).contiguous()


@causal_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float | None, enable_gqa: bool) -> Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


CAUSAL_ATTENTION = torch.ops.penstock.causal_attention.default
ATTENTION = (torch.ops.aten.scaled_dot_product_attention.default, CAUSAL_ATTENTION)
"""Attention of any kind."""
GROUP_STATS = torch.ops.penstock.group_stats.default
GROUP_NORMALIZE = torch.ops.penstock.group_normalize.default

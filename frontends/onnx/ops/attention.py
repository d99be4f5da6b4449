"""Attention as one operator, which it is from opset 23 on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import onnx_op


@onnx_op("Attention", since=23)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
    outputs: int,
) -> tuple[Tensor, ...]:
    """Scaled dot-product attention of ``[N, heads, tokens, width]``, or of ``[N, tokens, heads * width]``.

    Key and value may have fewer heads than the query, each then serves several. A mask is boolean (True takes part)
    or added to the scores. The results are the attended values, past and present keys and values joined, and the
    scores: as they are multiplied (mode 0), capped (1), masked (2) or turned into weights (3).
    """
    merged = query.dim() == 3
    if merged:
        query, key, value = _heads(query, q_num_heads), _heads(key, kv_num_heads), _heads(value, kv_num_heads)
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    present = (key, value)
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = torch.repeat_interleave(key, repeats, 1), torch.repeat_interleave(value, repeats, 1)
    past = 0 if past_key is None else past_key.shape[2]
    scores: tuple[Tensor, ...] = ()
    plainly_causal = bool(is_causal) and mask is None and nonpad_kv_seqlen is None and not past
    windowed = left_window_size >= 0 or right_window_size >= 0
    if not plainly_causal or windowed or softcap or outputs > 3:
        bounds = (left_window_size, 0 if is_causal else right_window_size)
        mask = _joined(mask, _visible(query, key, bounds, past, nonpad_kv_seqlen), key.shape[2])
        plainly_causal = False
    if softcap or outputs > 3:
        stages = _stages(query, key, mask, scale or 1 / math.sqrt(query.shape[-1]), softcap)
        result, scores = torch.matmul(stages[-1], value), (stages[qk_matmul_output_mode],)
    else:
        result = F.scaled_dot_product_attention(query, key, value, mask, is_causal=plainly_causal, scale=scale)
    if merged:
        result = result.transpose(1, 2).flatten(2)
    return result, *present, *scores


def _heads(x: Tensor, count: int) -> Tensor:
    """``[N, tokens, heads * width]`` as ``[N, heads, tokens, width]``."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _visible(query: Tensor, key: Tensor, bounds: tuple[int, int], past: int, lengths: Tensor | None) -> Tensor | None:
    """Which keys each query sees by its position; None for all.

    Args:
        bounds: how many keys to the left and to the right of its own position; -1 for no bound.
        past: how many keys come before the first query.
        lengths: how many keys of each sample are real [N], when the cache is kept outside.
    """
    left, right = bounds
    keys = torch.arange(key.shape[2])
    here = torch.arange(query.shape[2]).unsqueeze(1) + past
    rules: list[Tensor] = []
    if lengths is not None:
        lengths = lengths.reshape(-1, 1, 1, 1)
        here = here + (lengths - query.shape[2])
        rules.append(keys < lengths)
    if left >= 0:
        rules.append(keys >= here - left)
    if right >= 0:
        rules.append(keys <= here + right)
    seen = None
    for rule in rules:
        seen = rule if seen is None else torch.logical_and(seen, rule)
    return seen


def _joined(mask: Tensor | None, seen: Tensor | None, keys: int) -> Tensor | None:
    """One mask from the given one, whose missing columns hide, and the visible keys."""
    if mask is None:
        return seen
    boolean = mask.dtype == torch.bool
    missing = keys - mask.shape[-1]
    if missing:
        mask = F.pad(mask, (0, missing), value=False if boolean else -math.inf)
    if seen is None:
        return mask
    return torch.logical_and(mask, seen) if boolean else torch.where(seen, mask, -math.inf)


def _stages(query: Tensor, key: Tensor, mask: Tensor | None, scale: float, softcap: float) -> tuple[Tensor, ...]:
    """The scores as multiplied, bent to stay within ±softcap, masked, and as weights that add up to 1."""
    raw = torch.matmul(query * scale, key.transpose(2, 3))
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    masked = capped
    if mask is not None:
        masked = torch.where(mask, capped, -math.inf) if mask.dtype == torch.bool else capped + mask
    weights = torch.softmax(masked, -1)
    hidden = torch.amax(masked, -1, keepdim=True) == -math.inf
    return raw, capped, masked, torch.where(hidden, torch.zeros_like(weights), weights)

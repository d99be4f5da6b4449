"""Attention as one kernel that never holds the score matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tvm import relax

from penstock.backends.tvm.attention import emit_attention
from penstock.backends.tvm.ops.choice import choose
from penstock.backends.tvm.ops.emit import Emit, Expr, dtype_of, shape_of
from penstock.backends.tvm.ops.layout import permuted
from penstock.backends.tvm.ops.registry import RefusalError, lowers

aten = torch.ops.aten


@lowers(aten.scaled_dot_product_attention.default)
def scaled_dot_product_attention(
    emit: Emit,
    query: Expr,
    key: Expr,
    value: Expr,
    mask: Expr | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    grouped: bool = False,
) -> Expr:
    """softmax(query · keyᵀ · scale + mask) · value, over [*lead, tokens, width].

    The leading dimensions become [batch, heads]; `grouped` heads of key and value are repeated.
    """
    if dropout:
        raise RefusalError("attention with dropout", "capture the model in evaluation mode")
    lead = emit.shape[:-2]
    if grouped:
        key, value = (_repeat_heads(emit, tensor, shape_of(query)[-3]) for tensor in (key, value))
    query, key, value = (_four_dims(emit, emit.cast(tensor, emit.dtype), lead) for tensor in (query, key, value))
    if mask is not None:
        mask = _four_dims(emit, _additive(emit, mask), lead, keep_ones=True)
    order = emit.permuted_by_users() if len(lead) == 2 else None
    if order is None or order[-1] != 3:  # its rows would be torn apart
        order = (0, 1, 2, 3)
    result = emit_attention(
        emit.builder,
        query,
        key,
        value,
        mask,
        scale=1 / math.sqrt(shape_of(query)[-1]) if scale is None else float(scale),
        causal=causal,
        result=order,
    )
    return emit.reshape(permuted(emit, result, [order.index(dim) for dim in range(4)]), emit.shape)


def _repeat_heads(emit: Emit, x: Expr, heads: int) -> Expr:
    count = heads // shape_of(x)[-3]
    return x if count == 1 else emit(relax.op.repeat(x, count, len(shape_of(x)) - 3))


def _additive(emit: Emit, mask: Expr) -> Expr:
    """A mask to add to the scores: 0 where a boolean mask holds, -inf elsewhere."""
    if dtype_of(mask) != "bool":
        return emit.cast(mask, emit.dtype)
    return choose(emit, mask, 0.0, -math.inf, shape_of(mask))


def _four_dims(emit: Emit, x: Expr, lead: Sequence[int], keep_ones: bool = False) -> Expr:
    """[*lead, rows, columns] as [batch, heads, rows, columns], broadcast to the leading dimensions.

    Args:
        keep_ones: leave leading dimensions of size 1 alone where the four dimensions allow it.
    """
    last = shape_of(x)[-2:]
    held = (1,) * (len(lead) - len(shape_of(x)) + 2) + shape_of(x)[:-2]
    if not keep_ones or (len(lead) > 2 and any(extent != 1 for extent in held)):
        x, held = emit.broadcast(x, (*lead, *last)), tuple(lead)
    if len(held) == 1:
        return emit.reshape(x, (*held, 1, *last))
    return emit.reshape(x, (math.prod(held[:-1]), held[-1] if held else 1, *last))

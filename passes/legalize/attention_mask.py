"""Attention masks as numbers to add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class BooleanAttentionMask(RewritePass):
    """Turn a boolean attention mask into one that is added to the scores: 0 where it is true, minus infinity elsewhere.

    Given::

        sdpa = scaled_dot_product_attention(q, k, v, mask)              f32[1, 2, 4, 8]     (mask bool[4, 4])

    Result::

        sdpa_scalar_tensor = scalar_tensor(0.0, dtype=float32)          f32[]
        sdpa_scalar_tensor_1 = scalar_tensor(-inf, dtype=float32)       f32[]
        sdpa_where = where.self(mask, sdpa_scalar_tensor, sdpa_scalar_tensor_1)     f32[4, 4]
        sdpa = scaled_dot_product_attention(q, k, v, sdpa_where)        f32[1, 2, 4, 8]

    Options: none.

    Exactness: exact, it is what torch does inside. A query that may look at nothing yields zeros in both forms: whoever
    takes attention apart must keep that (a plain softmax over minus infinities yields NaN).
    """

    operators: ClassVar[Operators] = (aten.scaled_dot_product_attention.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same attention with an additive mask."""
        now = arguments_of(node)
        mask = now["attn_mask"]
        if mask is None or dtype_of(mask) != torch.bool:
            return None
        dtype = dtype_of(now["query"])
        keep, drop = (emit(aten.scalar_tensor.default, value, dtype=dtype) for value in (0.0, float("-inf")))
        return emit.changed(node, {"attn_mask": emit(aten.where.self, mask, keep, drop)})

"""Attention whose keys and values have fewer heads than its queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.heads import repeat_heads
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class GroupedQueryAttention(RewritePass):
    """Repeat the heads of keys and values until there is one for every head of the queries.

    What: ``enable_gqa`` lets `n` neighbouring query heads share one head of keys and values. Afterwards the sharing is
    an `expand` in front of an ordinary attention.

    Given::

        sdpa = scaled_dot_product_attention(q, k, v, enable_gqa=True)   f32[1, 4, 6, 8]   (k, v f32[1, 2, 6, 8])

    Result, and likewise for v::

        sdpa_unsqueeze = unsqueeze(k, 2)                                f32[1, 2, 1, 6, 8]
        sdpa_expand = expand(sdpa_unsqueeze, [1, 2, 2, 6, 8])           f32[1, 2, 2, 6, 8]
        sdpa_reshape = reshape(sdpa_expand, [1, 4, 6, 8])               f32[1, 4, 6, 8]
        sdpa = scaled_dot_product_attention(q, sdpa_reshape, sdpa_reshape_1)      f32[1, 4, 6, 8]

    Options: none.

    Exactness: exact, the same products.

    Source: J. Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models", EMNLP 2023.
    """

    operators: ClassVar[Operators] = (aten.scaled_dot_product_attention.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """Attention with equal head counts."""
        now = arguments_of(node)
        if not now["enable_gqa"]:
            return None
        heads = shape_of(now["query"])[-3]
        changes = {name: repeat_heads(emit, now[name], heads) for name in ("key", "value")}
        return emit.changed(node, {**changes, "enable_gqa": False})

"""Attention that has nothing to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class EmptyAttentionToZeros(RewritePass):
    """Write attention over no keys as zeros.

    What: a sum over nothing. Models attend to a prompt, or to an image, that a caller may leave empty.

    Given::

        attend = scaled_dot_product_attention(q, k, v)    f32[1, 2, 4, 8]    (k f32[1, 2, 0, 8])

    Result::

        attend = full([1, 2, 4, 8], 0.0)                  f32[1, 2, 4, 8]

    Options: none.

    Exactness: exact; PyTorch gives zeros.
    """

    operators: ClassVar[Operators] = (aten.scaled_dot_product_attention.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """Zeros, where there are no keys."""
        if shape_of(arguments_of(node)["key"])[-2]:
            return None
        return emit(aten.full.default, list(shape_of(node)), 0.0, dtype=dtype_of(node))

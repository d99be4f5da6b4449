"""Sums of booleans, spelled out as sums of integers."""

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
class WidenBoolCumsum(RewritePass):
    """Cast booleans to integers before they are summed or multiplied up.

    What: torch counts booleans in int64. A back end that adds in the operand's own type adds booleans. Attention masks
    are built this way: a running count of valid tokens.

    Given::

        cumsum = cumsum(mask, -1)                    i64[1, 16]     (mask bool[1, 16])

    Result::

        cumsum_to_copy = _to_copy(mask, dtype=int64) i64[1, 16]
        cumsum = cumsum(cumsum_to_copy, -1)          i64[1, 16]

    Options: none.

    Exactness: exact, the same integers.
    """

    operators: ClassVar[Operators] = (
        aten.cumsum.default, aten.cumprod.default, aten.sum.default, aten.sum.dim_IntList,
        aten.prod.default, aten.prod.dim_int,
    )  # fmt: skip

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same reduction of a cast operand."""
        operand = arguments_of(node)["self"]
        if dtype_of(operand) != torch.bool or dtype_of(node) == torch.bool:
            return None
        wide = emit(aten._to_copy.default, operand, dtype=dtype_of(node))
        return emit.changed(node, {"self": wide})

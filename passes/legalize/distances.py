"""Distances between rows as norms of differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class DistancesToNorms(RewritePass):
    """Write `cdist` as the norm of every difference of two rows.

    What: torch keeps this operator for few rows, or for orders other than 2; many rows it writes as a matrix product.

    Given::

        cdist = _cdist_forward(x, y, 2.0, None)                             f32[3, 4]     (x f32[3, 8], y f32[4, 8])

    Result::

        cdist_unsqueeze = unsqueeze(x, -2)                                  f32[3, 1, 8]
        cdist_unsqueeze_1 = unsqueeze(y, -3)                                f32[1, 4, 8]
        cdist_sub = sub(cdist_unsqueeze, cdist_unsqueeze_1)                 f32[3, 4, 8]
        cdist = linalg_vector_norm(cdist_sub, 2.0, [-1])                    f32[3, 4]

    Options: none.

    Exactness: exact up to rounding. Memory: the differences, rows · rows · channels.
    """

    operators: ClassVar[Operators] = (aten._cdist_forward.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The norm of the differences."""
        now = arguments_of(node)
        rows = emit(aten.unsqueeze.default, now["x1"], -2)
        difference = emit(aten.sub.Tensor, rows, emit(aten.unsqueeze.default, now["x2"], -3))
        return emit(aten.linalg_vector_norm.default, difference, now["p"], [-1])

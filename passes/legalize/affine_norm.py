"""Norms with a weight and a bias, always."""

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
class AffineGroupNorm(RewritePass):
    """Give `group_norm` and `layer_norm` without weight or bias ones and zeros.

    What: a back end whose norms always scale and shift then needs one form, and one kernel, of each.

    Given::

        group_norm = group_norm(x, 2)                                          f32[1, 4, 8, 8]

    Result::

        group_norm_full = full([4], 1.0, dtype=float32)                        f32[4]
        group_norm_full_1 = full([4], 0.0, dtype=float32)                      f32[4]
        group_norm = group_norm(x, 2, group_norm_full, group_norm_full_1)      f32[1, 4, 8, 8]

    Options: none.

    Exactness: exact, a product with one and a sum with zero.
    """

    operators: ClassVar[Operators] = (aten.group_norm.default, aten.layer_norm.default)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same norm with what it lacked."""
        now = arguments_of(node)
        if now["weight"] is not None and now["bias"] is not None:
            return None
        x = now["input"]
        shape = list(now["normalized_shape"]) if "normalized_shape" in now else [shape_of(x)[1]]
        dtype = dtype_of(now["weight"] if now["weight"] is not None else x)
        changes = {}
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            changes[name] = now[name] if now[name] is not None else emit(aten.full.default, shape, value, dtype=dtype)
        return emit.changed(node, changes)

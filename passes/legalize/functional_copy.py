"""Copying into a tensor, as the value it leaves."""

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
class FunctionalCopy(RewritePass):
    """Write `copy` as its source in the shape and dtype of its destination.

    What: `copy` is what functionalisation makes of ``x[...] = y``. It reads nothing of the destination but its shape
    and dtype, so the destination may disappear.

    Given::

        copy = copy(x, y)                           f32[2, 4]     (x f32[2, 4], y f16[4])

    Result::

        copy_to_copy = _to_copy(y, dtype=float32)   f32[4]
        copy = expand(copy_to_copy, [2, 4])         f32[2, 4]

    Options: none.

    Exactness: exact, the same elements.
    """

    operators: ClassVar[Operators] = (aten.copy.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The source, cast and expanded where needed."""
        value = arguments_of(node)["src"]
        if dtype_of(value) != dtype_of(node):
            value = emit(aten._to_copy.default, value, dtype=dtype_of(node))
        return value if shape_of(value) == shape_of(node) else emit(aten.expand.default, value, list(shape_of(node)))

"""Repeating each element in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of
from penstock.passes.legalize.dimensions import positive

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class RepeatInterleave(RewritePass):
    """Write `repeat_interleave` by a fixed count as unsqueeze, expand, reshape.

    Given::

        repeat_interleave = repeat_interleave.self_int(x, 3, 1)                                 f32[2, 12, 5]

    Result::

        repeat_interleave_unsqueeze = unsqueeze(x, 2)                                           f32[2, 4, 1, 5]
        repeat_interleave_expand = expand(repeat_interleave_unsqueeze, [2, 4, 3, 5])            f32[2, 4, 3, 5]
        repeat_interleave = reshape(repeat_interleave_expand, [2, 12, 5])                       f32[2, 12, 5]

    Options: none.

    Exactness: exact, the same elements.
    """

    operators: ClassVar[Operators] = (aten.repeat_interleave.self_int,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The expanded view, flattened."""
        now = arguments_of(node)
        x, count = now["self"], now["repeats"]
        if now["dim"] is None:
            x = emit(aten.reshape.default, x, [-1])
        shape = list(shape_of(x))
        if not shape:
            return emit(aten.expand.default, x, [count])
        after = positive(now["dim"] or 0, len(shape)) + 1
        copies = emit(aten.unsqueeze.default, x, after)
        copies = emit(aten.expand.default, copies, [*shape[:after], count, *shape[after:]])
        return emit(aten.reshape.default, copies, list(shape_of(node)))

"""A diagonal as a slice with a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of
from penstock.passes.legalize.dimensions import positive

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class DiagonalToSlice(RewritePass):
    """Write `diagonal` as a slice of the matrix as one line.

    What: neighbours on a diagonal of a matrix of `w` columns lie ``w + 1`` elements apart.

    Given::

        diagonal = diagonal(x, 1, 0, 1)                             f32[3]     (x f32[3, 4])

    Result::

        diagonal_reshape = reshape(x, [12])                         f32[12]
        diagonal = slice(diagonal_reshape, 0, 1, 12, 5)             f32[3]

    Options: none.

    Exactness: exact, the same elements. A diagonal without elements is refused.
    """

    operators: ClassVar[Operators] = (aten.diagonal.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The two dimensions last, as one line, and every so many elements of it."""
        length = shape_of(node)[-1]
        if not length:
            return Refusal("the diagonal has no elements")
        now = arguments_of(node)
        x, offset, rank = now["self"], now["offset"], len(shape_of(now["self"]))
        pair = [positive(now["dim1"], rank), positive(now["dim2"], rank)]
        order = [dim for dim in range(rank) if dim not in pair] + pair
        if order != list(range(rank)):
            x = emit(aten.permute.default, x, order)
        *batch, rows, columns = shape_of(x)
        first = offset if offset >= 0 else -offset * columns
        line = emit(aten.reshape.default, x, [*batch, rows * columns])
        stop = first + (length - 1) * (columns + 1) + 1
        return emit(aten.slice.Tensor, line, len(batch), first, stop, columns + 1)

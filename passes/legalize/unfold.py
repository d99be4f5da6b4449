"""Sliding windows as one gather."""

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
class UnfoldToIndexSelect(RewritePass):
    """Write `unfold` as a gather of every window's places.

    What: torch makes overlapping windows as a view of the same memory. Without such views each window is read out. With
    windows side by side (``step == size``) nothing overlaps, and a reshape does.

    Given::

        unfold = unfold(x, 1, 3, 2)                                         f32[2, 3, 3]     (x f32[2, 7])

    Result::

        w    constant.unfold.places                                         i64[9]
        unfold_index_select = index_select(x, 1, constant.unfold.places)    f32[2, 9]
        unfold = reshape(unfold_index_select, [2, 3, 3])                    f32[2, 3, 3]

    Options: none.

    Exactness: exact, the same elements.
    """

    operators: ClassVar[Operators] = (aten.unfold.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The windows, read out and put last."""
        now = arguments_of(node)
        x, size, step = now["self"], now["size"], now["step"]
        shape = list(shape_of(x))
        dim = positive(now["dimension"], len(shape))
        windows = (shape[dim] - size) // step + 1
        if step == size:
            read = emit(aten.slice.Tensor, x, dim, 0, windows * size) if windows * size < shape[dim] else x
        else:
            places = torch.arange(windows).unsqueeze(1) * step + torch.arange(size)
            read = emit(
                aten.index_select.default, x, dim, emit.constant(places.flatten(), f"constant.{node.name}.places")
            )
        split = emit(aten.reshape.default, read, [*shape[:dim], windows, size, *shape[dim + 1 :]])
        if dim == len(shape) - 1:
            return split
        others = [place for place in range(len(shape) + 1) if place != dim + 1]
        return emit(aten.permute.default, split, [*others, dim + 1])

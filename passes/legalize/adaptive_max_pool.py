"""Adaptive maximum pooling as one reduction per dimension."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class AdaptiveMaxPoolToAmax(RewritePass):
    """Write adaptive maximum pooling as `amax` over windows, dimension by dimension.

    What: a maximum over a box is a maximum of maxima. Windows side by side are a reshape. Otherwise window `i` of `n`
    over `e` elements reaches from ``⌊i·e/n⌋`` to ``⌈(i+1)·e/n⌉``; a gather reads all windows at the width of the
    widest, and the narrower repeat their last element, which changes no maximum.

    Given::

        pool = adaptive_max_pool2d(x, [2, 3])                               (f32[1, 4, 2, 3], i64[1, 4, 2, 3])
        getitem = getitem(pool, 0)                                          f32[1, 4, 2, 3]     (x f32[1, 4, 4, 5])

    Result::

        w    constant.pool.places3                                          i64[9]
        pool_reshape = reshape(x, [1, 4, 2, 2, 5])                          f32[1, 4, 2, 2, 5]
        pool_amax = amax(pool_reshape, [3])                                 f32[1, 4, 2, 5]
        pool_index_select = index_select(pool_amax, 3, constant.pool.places3)    f32[1, 4, 2, 9]
        pool_reshape_1 = reshape(pool_index_select, [1, 4, 2, 3, 3])        f32[1, 4, 2, 3, 3]
        getitem = amax(pool_reshape_1, [4])                                 f32[1, 4, 2, 3]

    Options: none.

    Exactness: exact, the same elements. A pooling whose places are read is refused.
    """

    operators: ClassVar[Operators] = (aten.adaptive_max_pool2d.default, aten.adaptive_max_pool3d.default)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """One reduction for each dimension that is pooled."""
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
            return Refusal("the places of the maxima are read")
        now = arguments_of(node)
        result, sizes = now["self"], list(now["output_size"])
        first = len(shape_of(result)) - len(sizes)
        for dim, windows in enumerate(sizes, start=first):
            shape = list(shape_of(result))
            extent = shape[dim]
            if extent % windows:
                places = _places(extent, windows)
                width = len(places[0])
                constant = emit.constant(places.flatten(), f"constant.{node.name}.places{dim}")
                result = emit(aten.index_select.default, result, dim, constant)
            else:
                width = extent // windows
            result = emit(aten.reshape.default, result, [*shape[:dim], windows, width, *shape[dim + 1 :]])
            result = emit(aten.amax.default, result, [dim + 1])
        return [result]


def _places(extent: int, windows: int) -> torch.Tensor:
    """The places that each window reads: int64[windows, width of the widest]."""
    bounds = [(at * extent // windows, -(-(at + 1) * extent // windows)) for at in range(windows)]
    width = max(stop - start for start, stop in bounds)
    return torch.tensor([[min(start + step, stop - 1) for step in range(width)] for start, stop in bounds])

"""Adaptive pooling in three dimensions as two poolings in two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class SeparateAdaptivePool3d(RewritePass):
    """Write adaptive average pooling over depth, height and width as one over height and width, then one over depth.

    What: each result is the mean over a box, which is the mean over its depth of the means over its planes.

    Given::

        pool = _adaptive_avg_pool3d(x, [2, 3, 3])                                    f32[1, 4, 2, 3, 3]

    Result (x f32[1, 4, 4, 6, 6])::

        pool_reshape = reshape(x, [1, 16, 6, 6])                                     f32[1, 16, 6, 6]
        pool_adaptive_avg_pool2d = _adaptive_avg_pool2d(pool_reshape, [3, 3])        f32[1, 16, 3, 3]
        pool_reshape_1 = reshape(pool_adaptive_avg_pool2d, [1, 4, 4, 9])             f32[1, 4, 4, 9]
        pool_adaptive_avg_pool2d_1 = _adaptive_avg_pool2d(pool_reshape_1, [2, 9])    f32[1, 4, 2, 9]
        pool = reshape(pool_adaptive_avg_pool2d_1, [1, 4, 2, 3, 3])                  f32[1, 4, 2, 3, 3]

    Options: none.

    Exactness: exact up to rounding.
    """

    operators: ClassVar[Operators] = (aten._adaptive_avg_pool3d.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The two poolings."""
        x = arguments_of(node)["self"]
        *batch, depth, height, width = shape_of(x)
        out_depth, out_height, out_width = shape_of(node)[-3:]
        columns = out_height * out_width
        planes = emit(aten.reshape.default, x, [1, torch.Size(batch).numel() * depth, height, width])
        planes = emit(aten._adaptive_avg_pool2d.default, planes, [out_height, out_width])
        lines = emit(aten.reshape.default, planes, [1, torch.Size(batch).numel(), depth, columns])
        lines = emit(aten._adaptive_avg_pool2d.default, lines, [out_depth, columns])
        return emit(aten.reshape.default, lines, list(shape_of(node)))

"""Maximum pooling without places, in two dimensions."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class MaxPoolToMaxPool2d(RewritePass):
    """Write every maximum pooling as `max_pool2d`.

    What: the places of the maxima are dropped where nothing reads them. Pooling over depth, height and width is pooling
    over height and width, then over depth: a maximum of maxima.

    Given::

        pool = max_pool3d_with_indices(x, [2, 2, 2])            (f32[1, 4, 2, 3, 3], i64[1, 4, 2, 3, 3])
        getitem = getitem(pool, 0)                              f32[1, 4, 2, 3, 3]     (x f32[1, 4, 4, 6, 6])

    Result::

        pool_reshape = reshape(x, [1, -1, 6, 6])                                               f32[1, 16, 6, 6]
        pool_max_pool2d = max_pool2d(pool_reshape, [2, 2], [2, 2], [0, 0], [1, 1], False)      f32[1, 16, 3, 3]
        pool_reshape_1 = reshape(pool_max_pool2d, [1, -1, 4, 9])                               f32[1, 4, 4, 9]
        pool_max_pool2d_1 = max_pool2d(pool_reshape_1, [2, 1], [2, 1], [0, 0], [1, 1], False)  f32[1, 4, 2, 9]
        getitem = reshape(pool_max_pool2d_1, [1, 4, 2, 3, 3])                                  f32[1, 4, 2, 3, 3]

    Options: none.

    Exactness: exact, the same elements. A pooling whose places are read is refused.
    """

    operators: ClassVar[Operators] = (
        aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default, aten.max_pool3d.default,
    )  # fmt: skip

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """One or two poolings in two dimensions."""
        plain = node.target is aten.max_pool3d.default
        if not plain and any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
            return Refusal("the places of the maxima are read")
        now = arguments_of(node)
        x = now["self"]
        if node.target is aten.max_pool2d_with_indices.default:
            rest = (now[name] for name in ("kernel_size", "stride", "padding", "dilation", "ceil_mode"))
            return [emit(aten.max_pool2d.default, x, *rest)]
        kernel = _triple(now["kernel_size"])
        stride = _triple(now["stride"] or kernel)
        padding, dilation = _triple(now["padding"]), _triple(now["dilation"])

        def pool(value: Node, over: slice, width: list[int]) -> Node:
            windows = [sizes[over] for sizes in (kernel, stride, padding, dilation)]
            neutral = ([1], [1], [0], [1])
            both = [size + (unit if width else []) for size, unit in zip(windows, neutral, strict=True)]
            return emit(aten.max_pool2d.default, value, *both, now["ceil_mode"])

        *batch, depth, height, width = shape_of(x)
        plane = pool(emit(aten.reshape.default, x, [1, -1, height, width]), slice(1, 3), [])
        height, width = shape_of(plane)[-2:]
        column = pool(emit(aten.reshape.default, plane, [1, -1, depth, height * width]), slice(0, 1), [1])
        out = emit(aten.reshape.default, column, [*batch, shape_of(column)[-2], height, width])
        return out if plain else [out]


def _triple(size: Any) -> list[int]:
    sizes = list(size) if isinstance(size, (list, tuple)) else [size]
    return sizes * 3 if len(sizes) == 1 else sizes

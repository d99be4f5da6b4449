"""Transposed convolution in three dimensions as a convolution."""

from __future__ import annotations

from collections.abc import Sequence
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
class TransposedConv3d(RewritePass):
    """Write `conv_transpose3d` as `conv3d` over an operand with zeros between its elements.

    What: the operand's elements move `stride` apart, the border grows by ``dilation · (kernel - 1) - padding`` (and by
    `output_padding` at the far end), and an ordinary convolution with the flipped weight runs over the result. Per
    group, the weight changes from (in, out) to (out, in); constant folding makes that a constant.

    Given::

        up = conv_transpose3d.input(x, w, None, [1, 2, 1])      f32[1, 3, 4, 9, 4]     (x f32[1, 4, 2, 4, 2])

    Result (w f32[4, 3, 3, 3, 3])::

        up_reshape = reshape(w, [1, 4, 3, 3, 3, 3])             f32[1, 4, 3, 3, 3, 3]
        up_transpose = transpose.int(up_reshape, 1, 2)          f32[1, 3, 4, 3, 3, 3]
        up_reshape_1 = reshape(up_transpose, [3, 4, 3, 3, 3])   f32[3, 4, 3, 3, 3]
        up_flip = flip(up_reshape_1, [2, 3, 4])                 f32[3, 4, 3, 3, 3]
        up_unsqueeze = unsqueeze(x, 4)                          f32[1, 4, 2, 4, 1, 2]
        up_pad = constant_pad_nd(up_unsqueeze, [0, 0, 0, 1])    f32[1, 4, 2, 4, 2, 2]
        up_reshape_2 = reshape(up_pad, [1, 4, 2, 8, 2])         f32[1, 4, 2, 8, 2]
        up_slice = slice(up_reshape_2, 3, 0, 7)                 f32[1, 4, 2, 7, 2]
        up = conv3d(up_slice, up_flip, None, [1, 1, 1], [2, 2, 2], [1, 1, 1], 1)     f32[1, 3, 4, 9, 4]

    Options: none.

    Exactness: exact up to rounding. The convolution multiplies ``stride³`` times as many elements, most of them zeros.

    Source: V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4.
    """

    operators: ClassVar[Operators] = (aten.conv_transpose3d.input,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The convolution over the widened operand."""
        now = arguments_of(node)
        x, weight, groups = now["input"], now["weight"], now["groups"]
        names = ("stride", "padding", "output_padding", "dilation")
        stride, padding, extra, dilation = (_triple(now[name]) for name in names)
        flipped = _convolution_weight(emit, weight, groups)
        batched = len(shape_of(x)) == 5
        value = x if batched else emit(aten.unsqueeze.default, x, 0)
        for axis, step in enumerate(stride, start=2):
            value = _spread(emit, value, axis, step)
        reach = [gap * (extent - 1) for gap, extent in zip(dilation, shape_of(weight)[2:], strict=True)]
        near = [size - cut for size, cut in zip(reach, padding, strict=True)]
        border = near
        if any(extra) or min(near) < 0:
            far = [size + more for size, more in zip(near, extra, strict=True)]
            value, border = _widen(emit, value, near, far), [0, 0, 0]
        result = emit(aten.conv3d.default, value, flipped, now["bias"], [1, 1, 1], border, dilation, groups)
        return result if batched else emit(aten.squeeze.dim, result, 0)


def _triple(size: Sequence[int]) -> list[int]:
    return list(size) * 3 if len(size) == 1 else list(size)


def _convolution_weight(emit: Emitter, weight: Node, groups: int) -> Node:
    inputs, outputs, *kernel = shape_of(weight)
    per_group = emit(aten.reshape.default, weight, [groups, inputs // groups, outputs, *kernel])
    swapped = emit(aten.transpose.int, per_group, 1, 2)
    merged = emit(aten.reshape.default, swapped, [groups * outputs, inputs // groups, *kernel])
    return emit(aten.flip.default, merged, [2, 3, 4])


def _spread(emit: Emitter, value: Node, axis: int, step: int) -> Node:
    """Put ``step - 1`` zeros between neighbours along one axis."""
    if step == 1:
        return value
    shape = list(shape_of(value))
    behind = len(shape) - axis - 1
    apart = emit(aten.unsqueeze.default, value, axis + 1)
    apart = emit(aten.constant_pad_nd.default, apart, [0, 0] * behind + [0, step - 1])
    merged = emit(aten.reshape.default, apart, [*shape[:axis], shape[axis] * step, *shape[axis + 1 :]])
    return emit(aten.slice.Tensor, merged, axis, 0, (shape[axis] - 1) * step + 1)


def _widen(emit: Emitter, value: Node, near: Sequence[int], far: Sequence[int]) -> Node:
    """Pad each axis at both ends with zeros; a negative width cuts instead."""
    for axis, (left, right) in enumerate(zip(near, far, strict=True), start=2):
        extent = shape_of(value)[axis]
        if left < 0 or right < 0:
            value = emit(aten.slice.Tensor, value, axis, max(-left, 0), extent - max(-right, 0))
    pads = [max(width, 0) for pair in reversed(list(zip(near, far, strict=True))) for width in pair]
    return emit(aten.constant_pad_nd.default, value, pads) if any(pads) else value

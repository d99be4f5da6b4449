"""Transposed convolution as a convolution that gives several output positions at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten

_CONVOLUTIONS: dict[Any, Any] = {
    aten.conv_transpose1d.default: aten.conv1d.default,
    aten.conv_transpose2d.input: aten.conv2d.default,
    aten.conv_transpose3d.input: aten.conv3d.default,
}


@register
@dataclass(frozen=True)
class TransposedConvolution(RewritePass):
    """Write a transposed convolution as a convolution with ``stride`` times as many channels per axis, and a shuffle.

    What: an output position at phase r of the stride, ``q · stride + r``, takes every stride-th tap of the kernel, from
    r on, and operand elements around q. So each phase is an ordinary convolution by a part of the flipped kernel. All
    of them read the same elements, and they become one convolution whose channels are (channel, phase). A permutation
    moves the phases between the positions, and a slice cuts what `padding` cuts. A dilated kernel, or one that the
    stride does not divide, is filled up with zeros. Constant folding makes the new weight a constant.

    Given::

        up = conv_transpose2d.input(x, w, None, [1, 2])     f32[1, 3, 4, 8]     (x f32[1, 4, 2, 4], w f32[4, 3, 3, 2])

    Result::

        up_reshape = reshape(w, [1, 4, 3, 3, 1, 1, 2])              f32[1, 4, 3, 3, 1, 1, 2]
        up_permute = permute(up_reshape, [0, 2, 4, 6, 1, 3, 5])     f32[1, 3, 1, 2, 4, 3, 1]
        up_reshape_1 = reshape(up_permute, [6, 4, 3, 1])            f32[6, 4, 3, 1]
        up_flip = flip(up_reshape_1, [2, 3])                        f32[6, 4, 3, 1]
        up_conv2d = conv2d(x, up_flip, None, [1, 1], [2, 0], [1, 1], 1)     f32[1, 6, 4, 4]
        up_reshape_2 = reshape(up_conv2d, [1, 3, 1, 2, 4, 4])       f32[1, 3, 1, 2, 4, 4]
        up_permute_1 = permute(up_reshape_2, [0, 1, 4, 2, 5, 3])    f32[1, 3, 4, 1, 4, 2]
        up = reshape(up_permute_1, [1, 3, 4, 8])                    f32[1, 3, 4, 8]

    Options: none.

    Exactness: exact up to rounding. No element is multiplied that the operator does not multiply, apart from the filled
    up kernel and positions at the border.

    Source: W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016, arXiv:1609.07009.
    """

    operators: ClassVar[Operators] = tuple(_CONVOLUTIONS)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The convolution, the shuffle, the cut."""
        now = arguments_of(node)
        x, weight, bias, groups = now["input"], now["weight"], now["bias"], now["groups"]
        space = len(shape_of(weight)) - 2
        stride, padding, dilation = (_per_axis(now[name], space) for name in ("stride", "padding", "dilation"))
        batched = len(shape_of(x)) == space + 2
        x = x if batched else emit(aten.unsqueeze.default, x, 0)
        taps = [
            math.ceil((step * (size - 1) + 1) / jump)
            for size, step, jump in zip(shape_of(weight)[2:], dilation, stride, strict=True)
        ]
        after = shape_of(node)[-space:]
        axes = [*zip(shape_of(x)[2:], after, taps, stride, padding, strict=True)]
        border = [_border(*axis) for axis in axes]
        first = [(tap - 1 - around) * jump for tap, around, jump in zip(taps, border, stride, strict=True)]
        kernel = _phases(emit, weight, groups, taps, stride, dilation)
        each = bias if bias is None else _repeated(emit, bias, math.prod(stride))
        value = emit(_CONVOLUTIONS[node.target], x, kernel, each, [1] * space, border, [1] * space, groups)
        value = _shuffled(emit, value, stride)
        for axis, (start, cut, extent) in enumerate(zip(first, padding, after, strict=True), start=2):
            begin = cut - start
            if begin or extent != shape_of(value)[axis]:
                value = emit(aten.slice.Tensor, value, axis, begin, begin + extent)
        return value if batched else emit(aten.squeeze.dim, value, 0)


def _per_axis(sizes: Sequence[int], space: int) -> list[int]:
    return list(sizes) * space if len(sizes) == 1 else list(sizes)


def _border(before: int, after: int, taps: int, stride: int, padding: int) -> int:
    """How many zeros the convolution needs at both ends of an axis, so that all output positions are there."""
    first = padding // stride
    end = math.ceil((padding + after) / stride)
    return max(taps - 1 - first, end - before, 0)


def _phases(
    emit: Emitter, weight: Node, groups: int, taps: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Node:
    """The weight [in, out / groups, *kernel] as [out · phases, in / groups, *taps]."""
    for axis, (tap, jump, step) in enumerate(zip(taps, stride, dilation, strict=True), start=2):
        weight = _filled(emit, weight, axis, step, tap * jump)
    inputs, outputs, *_ = shape_of(weight)
    space = len(taps)
    pairs = [size for pair in zip(taps, stride, strict=True) for size in pair]
    split = emit(aten.reshape.default, weight, [groups, inputs // groups, outputs, *pairs])
    phases, places = range(4, 4 + 2 * space, 2), range(3, 3 + 2 * space, 2)
    ordered = emit(aten.permute.default, split, [0, 2, *phases, 1, *places])
    merged = emit(aten.reshape.default, ordered, [groups * outputs * math.prod(stride), inputs // groups, *taps])
    return emit(aten.flip.default, merged, [*range(2, 2 + space)])


def _filled(emit: Emitter, weight: Node, axis: int, step: int, wanted: int) -> Node:
    """Put ``step - 1`` zeros behind each tap of one axis, and cut or fill up to a length."""

    def behind(value: Node, axis: int, zeros: int) -> Node:
        later = len(shape_of(value)) - axis - 1
        return emit(aten.constant_pad_nd.default, value, [0, 0] * later + [0, zeros]) if zeros else value

    shape = list(shape_of(weight))
    if step > 1:
        apart = behind(emit(aten.unsqueeze.default, weight, axis + 1), axis + 1, step - 1)
        shape[axis] *= step
        weight = emit(aten.reshape.default, apart, shape)
    if shape[axis] > wanted:
        return emit(aten.slice.Tensor, weight, axis, 0, wanted)
    return behind(weight, axis, wanted - shape[axis])


def _repeated(emit: Emitter, bias: Node, phases: int) -> Node:
    """The bias of a channel for each of its phases."""
    if phases == 1:
        return bias
    (channels,) = shape_of(bias)
    copies = emit(aten.expand.default, emit(aten.unsqueeze.default, bias, 1), [channels, phases])
    return emit(aten.reshape.default, copies, [channels * phases])


def _shuffled(emit: Emitter, value: Node, stride: Sequence[int]) -> Node:
    """[batch, channels · phases, *positions] as [batch, channels, *(positions · stride)]."""
    if math.prod(stride) == 1:
        return value
    batch, channels, *positions = shape_of(value)
    space = len(stride)
    split = emit(aten.reshape.default, value, [batch, channels // math.prod(stride), *stride, *positions])
    order = [axis for pair in zip(range(2 + space, 2 + 2 * space), range(2, 2 + space), strict=True) for axis in pair]
    moved = emit(aten.permute.default, split, [0, 1, *order])
    spread = [extent * jump for extent, jump in zip(positions, stride, strict=True)]
    return emit(aten.reshape.default, moved, [batch, channels // math.prod(stride), *spread])

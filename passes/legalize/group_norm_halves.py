"""Group norm in two halves, in core operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.ops import GROUP_NORMALIZE, GROUP_STATS
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class GroupNormHalves(RewritePass):
    """Write the halves of a group norm in reductions and arithmetic, in float32 or the values' own higher precision.

    What: statistics are means of the values and of their squared distances from the mean; normalising is one chain of
    element-wise operators. `FeatureSlicing` makes the halves.

    Given::

        stats = group_stats(x, 2)                                   f32[2, 2, 2]

    Result::

        stats_reshape = reshape(x, [2, 2, -1])                      f32[2, 2, 64]
        stats_mean = mean.dim(stats_reshape, [2], True)             f32[2, 2, 1]
        stats_sub = sub(stats_reshape, stats_mean)                  f32[2, 2, 64]
        stats_mul = mul(stats_sub, stats_sub)                       f32[2, 2, 64]
        stats_mean_1 = mean.dim(stats_mul, [2], True)               f32[2, 2, 1]
        stats = cat([stats_mean, stats_mean_1], 2)                  f32[2, 2, 2]

    Options: none.

    Exactness: exact up to rounding.

    Source: Y. Wu and K. He, "Group Normalization", ECCV 2018, section 3.
    """

    operators: ClassVar[Operators] = (GROUP_STATS, GROUP_NORMALIZE)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The arithmetic of one half."""
        return _stats(node, emit) if node.target is GROUP_STATS else _normalized(node, emit)


def _stats(node: Node, emit: Emitter) -> Node:
    x, groups = node.args
    assert isinstance(x, Node)
    assert isinstance(groups, int)
    source, order = _stored(x)
    at = order[1]  # the channels' dimension; those before it are batch, or reduced like those behind it
    before = shape_of(source)[:at]
    also = [dim for dim, extent in enumerate(before) if dim != order[0] and extent > 1]
    held = _in(dtype_of(node), emit(aten.reshape.default, source, [*before, groups, -1]), emit)

    def mean_of(value: Node) -> Node:
        mean = emit(aten.mean.dim, value, [at + 1], True)
        return emit(aten.mean.dim, mean, also, True) if also else mean

    mean = mean_of(held)
    distance = emit(aten.sub.Tensor, held, mean)
    variance = mean_of(emit(aten.mul.Tensor, distance, distance))
    stats = emit(aten.cat.default, [mean, variance], at + 1)
    return stats if at == 1 else emit(aten.reshape.default, stats, [shape_of(x)[0], groups, 2])


def _stored(x: Node) -> tuple[Node, list[int]]:
    """The value that a permuted one looks into, and which of its dimensions are batch, channels, ….

    To make rows of a permuted value would copy it.
    """
    rank = len(shape_of(x))
    if x.target is aten.permute.default:
        held = arguments_of(x)
        order = [dim % rank for dim in held["dims"]]
        if order[0] < order[1]:
            return held["self"], order
    return x, list(range(rank))


def _normalized(node: Node, emit: Emitter) -> Node:
    x, stats, weight, bias, eps = node.args
    assert isinstance(x, Node)
    assert isinstance(stats, Node)
    batch, channels, *rest = shape_of(x)
    groups = shape_of(stats)[1]
    split = [batch, groups, channels // groups, *rest]
    ones = [1] * len(rest)

    def statistic(index: int) -> Node:
        found = emit(aten.slice.Tensor, stats, 2, index, index + 1)
        return emit(aten.reshape.default, found, [batch, groups, 1, *ones])

    wide = dtype_of(stats)
    held = _in(wide, emit(aten.reshape.default, x, split), emit)
    centred = emit(aten.sub.Tensor, held, statistic(0))
    deviation = emit(aten.rsqrt.default, emit(aten.add.Tensor, statistic(1), eps))
    made = emit(aten.reshape.default, emit(aten.mul.Tensor, centred, deviation), [batch, channels, *rest])
    for operator, parameter in ((aten.mul.Tensor, weight), (aten.add.Tensor, bias)):
        if isinstance(parameter, Node):
            shaped = emit(aten.reshape.default, _in(wide, parameter, emit), [channels, *ones])
            made = emit(operator, made, shaped)
    return _in(dtype_of(x), made, emit)


def _in(dtype: torch.dtype, value: Node, emit: Emitter) -> Node:
    return value if dtype_of(value) == dtype else emit(aten._to_copy.default, value, dtype=dtype)

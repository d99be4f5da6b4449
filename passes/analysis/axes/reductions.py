"""Reductions along an axis, made in parts: the operator on each part, and what puts the parts' results together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes.axis import Axis
from penstock.passes.analysis.axes.rules import Emit
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.ops import GROUP_STATS
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten

Merge = Callable[[Emit, Any, Sequence[int]], Any]
"""From the parts' results, stacked along a new first dimension, and the number of positions of each, to the result of
the whole."""


def _mean(emit: Emit, stacked: Any, sizes: Sequence[int]) -> Any:
    """Of what parts have, in which each counts by its positions."""
    found, at = None, 0
    for size, each in groupby(sizes):
        count = len(list(each))
        if count == len(sizes):
            return emit(aten.mean.dim, stacked, [0])
        mean = emit(aten.mean.dim, emit(aten.slice.Tensor, stacked, 0, at, at + count), [0])
        weighted = emit(aten.mul.Tensor, mean, count * size / sum(sizes))
        found = weighted if found is None else emit(aten.add.Tensor, found, weighted)
        at += count
    return found


def _merge_stats(emit: Emit, stacked: Any, sizes: Sequence[int]) -> Any:
    """The mean of the means; the mean of the variances and of the means' squared distances.

    Source: T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    1979, section 2.
    """
    mean = _mean(emit, stacked, sizes)  # of the means, and of the variances
    distances = emit(aten.sub.Tensor, stacked, mean)
    spread = _mean(emit, emit(aten.mul.Tensor, distances, distances), sizes)
    means, variances = (emit(aten.slice.Tensor, mean, 2, half, half + 1) for half in (0, 1))
    squared = emit(aten.slice.Tensor, spread, 2, 0, 1)
    return emit(aten.cat.default, [means, emit(aten.add.Tensor, variances, squared)], 2)


def _merge_with(target: Any) -> Merge:
    return lambda emit, stacked, _: emit(target, stacked, [0])


MERGES: dict[Any, Merge] = {
    GROUP_STATS: _merge_stats,
    aten.mean.dim: _mean,
    aten.sum.dim_IntList: _merge_with(aten.sum.dim_IntList),
    aten.amax.default: _merge_with(aten.amax.default),
    aten.amin.default: _merge_with(aten.amin.default),
}


def reduces(node: Node, axes: Mapping[Node, Axis]) -> bool:
    """Whether a node reduces a value along the axis that it is cut along, and can be made in parts of it."""
    if node.target not in MERGES or len(node.all_input_nodes) != 1:
        return False
    (source,) = node.all_input_nodes
    axis = axes.get(source)
    if axis is None:
        return False
    if node.target is GROUP_STATS:
        return axis.dim > 1
    rank = len(shape_of(source))
    dims = arguments_of(node)["dim"]
    if isinstance(dims, int):
        dims = [dims]
    return not dims or axis.dim in {dim % rank for dim in dims}

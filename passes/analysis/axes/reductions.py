"""Reductions along an axis, made in parts: the operator on each part, and what puts the parts' results together.

All parts have the same number of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes.axis import Axis
from penstock.passes.analysis.axes.rules import Emit
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.ops import GROUP_STATS
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten

Merge = Callable[[Emit, Any], Any]
"""From the parts' results, stacked along a new first dimension, to the result of the whole."""


def _merge_stats(emit: Emit, stacked: Any) -> Any:
    """Of parts of one size: the mean of the means; the mean of the variances and of the means' squared distances.

    Source: T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
    1979, section 2.
    """
    means = emit(aten.slice.Tensor, stacked, 3, 0, 1)
    variances = emit(aten.slice.Tensor, stacked, 3, 1, 2)
    mean = emit(aten.mean.dim, means, [0])
    distances = emit(aten.sub.Tensor, means, mean)
    spread = emit(aten.add.Tensor, variances, emit(aten.mul.Tensor, distances, distances))
    return emit(aten.cat.default, [mean, emit(aten.mean.dim, spread, [0])], 2)


def _merge_with(target: Any) -> Merge:
    return lambda emit, stacked: emit(target, stacked, [0])


MERGES: dict[Any, Merge] = {
    GROUP_STATS: _merge_stats,
    aten.mean.dim: _merge_with(aten.mean.dim),
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

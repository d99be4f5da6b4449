"""Index tensors counted from the front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, is_fake, shape_of

aten = torch.ops.aten

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)


@register
@dataclass(frozen=True)
class NonNegativeIndexTensors(RewritePass):
    """Make the index tensors of `index` and `index_put` count from the front.

    What: a negative entry counts from the end. A back end that does not check bounds reads foreign memory there,
    silently. A constant that holds no negative entry stays; every other index is taken modulo the extent it indexes.

    Given::

        index = index(x, [i, j])                        f32[3]     (x f32[4, 5], i and j i64[3])

    Result::

        index_remainder = remainder.Scalar(i, 4)        i64[3]
        index_remainder_1 = remainder.Scalar(j, 5)      i64[3]
        index = index(x, [index_remainder, index_remainder_1])     f32[3]

    Options: none.

    Exactness: exact for every index that torch accepts. One outside of the tensor, at which torch stops with an error,
    reads some element of it instead.
    """

    operators: ClassVar[Operators] = (aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same operator on indices modulo their extents."""
        now = arguments_of(node)
        extents = _extents(shape_of(now["self"]), now["indices"])
        indices = [
            index if index is None or not _may_be_negative(emit, index, extent) else _modulo(emit, index, extent)
            for index, extent in zip(now["indices"], extents, strict=True)
        ]
        if node.target is aten._unsafe_index.Tensor:
            return emit(aten.index.Tensor, now["self"], indices)
        return None if indices == list(now["indices"]) else emit.changed(node, {"indices": indices})


def _extents(shape: tuple[int, ...], indices: list[Node | None]) -> list[int]:
    """The extent that each index tensor indexes; a boolean mask takes as many dimensions as it has."""
    extents, dimension = [], 0
    for index in indices:
        extents.append(shape[dimension])
        dimension += len(shape_of(index)) if index is not None and dtype_of(index) == torch.bool else 1
    return extents


def _may_be_negative(emit: Emitter, index: Node, extent: int) -> bool:
    if dtype_of(index) not in _INTEGERS:
        return False
    if index.op == "get_attr":
        values = emit.rewriter.weights[str(index.target)]
        return is_fake(values) or bool((values < 0).any())
    return not (index.target is aten.remainder.Scalar and index.args[1] == extent)


def _modulo(emit: Emitter, index: Node, extent: int) -> Node:
    return emit(aten.remainder.Scalar, index, extent)

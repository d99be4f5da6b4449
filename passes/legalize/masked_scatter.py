"""Elements put in order under a boolean mask, as a gather and a choice."""

from __future__ import annotations

import math
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
class MaskedScatterToGather(RewritePass):
    """Write `masked_scatter` as a gather at counted places, and a choice.

    What: the `n`-th true element takes the `n`-th element of the source, so a running count of the mask is the place to
    read. Language models put the tokens of images among those of text this way, by a mask of tokens that is expanded
    over channels: then whole rows are counted and gathered, not elements.

    Given (mask bool[1, 5, 1], expanded; source f32[2, 8])::

        put = masked_scatter(x, expand, source)                             f32[1, 5, 8]

    Result::

        put_reshape = reshape(mask, [5])                                    bool[5]
        put_to_copy = _to_copy(put_reshape, dtype=int64)                    i64[5]
        put_cumsum = cumsum(put_to_copy, 0)                                 i64[5]
        put_sub = sub(put_cumsum, 1)                                        i64[5]
        put_clamp = clamp(put_sub, 0, 1)                                    i64[5]
        put_reshape_1 = reshape(source, [2, 8])                             f32[2, 8]
        put_index_select = index_select(put_reshape_1, 0, put_clamp)        f32[5, 8]
        put_reshape_2 = reshape(put_index_select, [1, 5, 8])                f32[1, 5, 8]
        put = where.self(mask, put_reshape_2, x)                            f32[1, 5, 8]

    Options: none.

    Exactness: exact, the same elements. Where the source has fewer elements than the mask is true, which torch refuses
    at run time, its last is repeated.
    """

    operators: ClassVar[Operators] = (aten.masked_scatter.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The count, the gather and the choice."""
        now = arguments_of(node)
        x, mask, source = now["self"], now["mask"], now["source"]
        shape, available = shape_of(node), math.prod(shape_of(source))
        if not available:
            return Refusal("the source has no elements")
        if shape_of(x) != shape:
            return Refusal(f"the mask {shape_of(mask)} stretches the tensor {shape_of(x)}")
        if mask.target is aten.expand.default:
            mask = mask.args[0]
        width = _row(shape, shape_of(mask), available)
        leading = shape[: len(shape) - len(width)]
        named = [1] * (len(shape) - len(shape_of(mask))) + list(shape_of(mask))
        if named[: len(leading)] != list(leading):
            mask = emit(aten.expand.default, mask, [*leading, *[1] * len(width)])
        rows, inner = math.prod(leading), math.prod(width)
        flags = emit(aten._to_copy.default, emit(aten.reshape.default, mask, [rows]), dtype=torch.int64)
        places = emit(aten.sub.Tensor, emit(aten.cumsum.default, flags, 0), 1)
        places = emit(aten.clamp.default, places, 0, available // inner - 1)
        table = emit(aten.reshape.default, source, [available // inner, inner])
        read = emit(aten.index_select.default, table, 0, places)
        return emit(aten.where.self, mask, emit(aten.reshape.default, read, list(shape)), x)


def _row(shape: tuple[int, ...], mask: tuple[int, ...], available: int) -> tuple[int, ...]:
    """The last dimensions along which a mask is the same, as far as the source is whole rows of them."""
    padded = (1,) * (len(shape) - len(mask)) + mask
    dims = len(shape)
    while dims and padded[dims - 1] == 1 and available % math.prod(shape[dims - 1 :]) == 0:
        dims -= 1
    return shape[dims:]

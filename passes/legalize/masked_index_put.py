"""Assignment under a boolean mask, as a choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class MaskedIndexPut(RewritePass):
    """Write ``x[mask] = value`` as ``where(mask, value, x)``.

    What: which elements a mask names is known only at run time, but one value for all of them needs no list of places.

    Given::

        index_put = index_put(x, [mask], value)         f32[3, 5]     (mask bool[3], value f32[])

    Result::

        index_put_view = view(mask, [3, 1])             bool[3, 1]
        index_put = where.self(index_put_view, value, x)     f32[3, 5]

    Options: none.

    Exactness: exact, the same elements. A mask with one value per element, or with `accumulate`, is refused.
    """

    operators: ClassVar[Operators] = (aten.index_put.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The choice between the new value and the old."""
        now = arguments_of(node)
        x, indices, value = now["self"], now["indices"], now["values"]
        if all(index is None or dtype_of(index) != torch.bool for index in indices):
            return None
        if len(indices) != 1:
            return Refusal("a boolean mask stands beside other indices")
        if now["accumulate"]:
            return Refusal("it adds at the places of a boolean mask")
        (mask,) = indices
        rest = len(shape_of(x)) - len(shape_of(mask))
        # The first dimension of `value` would count the true elements; only one value for all has a fixed shape.
        if len(shape_of(value)) > rest and shape_of(value)[0] != 1:
            return Refusal(f"the values {shape_of(value)} are one for each true element, whose number is not fixed")
        if len(shape_of(value)) > rest:
            value = emit(aten.reshape.default, value, list(shape_of(value)[1:]))
        if rest:
            mask = emit(aten.view.default, mask, [*shape_of(mask), *[1] * rest])
        return emit(aten.where.self, mask, value, x)

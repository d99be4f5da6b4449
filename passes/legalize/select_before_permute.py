"""One position of a permuted tensor, chosen before it is permuted."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of
from penstock.passes.legalize.dimensions import positive

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class SelectBeforePermute(RewritePass):
    """Choose queries, keys and values that a model packs into one tensor before it permutes them.

    What: many models make all three with one linear layer, permute the result and take it apart. In PyTorch those are
    views. A compiler makes the permuted tensor, as large as all three, where several operators use it; one that is
    permuted for a single user is read where it lies.

    Given::

        permute = permute(x, [2, 0, 1])             f32[3, 4, 8]    (x f32[4, 8, 3])
        select = select.int(permute, 0, 1)          f32[4, 8]

    Result::

        select_select = select.int(x, 2, 1)         f32[4, 8]
        select = permute(select_select, [0, 1])     f32[4, 8]

    Options: none.

    Exactness: exact, the same elements.
    """

    operators: ClassVar[Operators] = (aten.select.int, operator.getitem)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same position of the tensor behind the permutation."""
        if node.target is operator.getitem:
            unbind, index = node.args
            if not isinstance(unbind, Node) or unbind.target is not aten.unbind.int:
                return None
            now = {**arguments_of(unbind), "index": index}
        else:
            now = arguments_of(node)
        permuted, index = now["self"], now["index"]
        if permuted.target is not aten.permute.default:
            return None
        source, order = permuted.args
        rank = len(order)
        order = [positive(dim, rank) for dim in order]
        chosen = order.pop(positive(now["dim"], rank))
        one = emit(aten.select.int, source, chosen, positive(index, shape_of(source)[chosen]))
        return emit(aten.permute.default, one, [dim - (dim > chosen) for dim in order])

"""Which arguments of an operator name dimensions of its tensor, and their non-negative form."""

from __future__ import annotations

from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.shapes import tensor_of

_NAMES = ("dim", "dims", "dim0", "dim1")
_COUNT_IN_RESULT = (torch.ops.aten.unsqueeze.default, torch.ops.aten.stack.default)


def positive(dimension: int, rank: int) -> int:
    """``-1`` of rank 4 is 3. A tensor of rank 0 counts as one of rank 1, as everywhere in ATen."""
    return dimension % max(rank, 1)


def dimension_arguments(node: Node) -> dict[str, Any]:
    """The arguments of a node that name dimensions, by schema name, each counted from the front.

    ``unsqueeze`` and ``stack`` count in the result, which has one dimension more than the operand.
    """
    assert isinstance(node.target, OpOverload)
    if not node.all_input_nodes or not isinstance(node.all_input_nodes[0].meta["val"], torch.Tensor):
        return {}
    tensor = node if node.target in _COUNT_IN_RESULT else node.all_input_nodes[0]
    rank = tensor_of(tensor).dim()
    found: dict[str, Any] = {}
    for name, value in arguments_of(node).items():
        if name not in _NAMES:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            found[name] = positive(value, rank)
        elif isinstance(value, (list, tuple)) and value:
            found[name] = [positive(item, rank) for item in value]
    return found

"""The views that kernels copy before they read them.

A kernel reads and writes values that lie dense, row by row. What goes element by element, or only moves elements, takes
in the permuting or the expanding of its operand; attention finds its heads, and a group norm its channels, where they
lie. Everything else reads a dense copy, such as a convolution over frames that lie behind the channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.cost import node_flops
from penstock.passes.core.aliases import buffer_of, is_view
from penstock.passes.core.shapes import value_of

aten = torch.ops.aten


class DenseViews:
    """How the views of a graph lie where what they look into lies dense, row by row, as kernels leave it.

    Torch's own strides say something else where one of its operators leaves its result in another order, as attention
    does.
    """

    def __init__(self) -> None:
        self._seen: dict[Node, Any] = {}
        self._copying: set[Node] = set()

    def lies_dense(self, node: Node) -> bool:
        """Whether a value lies dense, where what it looks into does."""
        seen = self._of(node)
        return isinstance(seen, torch.Tensor) and seen.is_contiguous()

    def copies(self, node: Node) -> bool:
        """Whether a view has to copy where what it looks into comes from another step, and so lies dense.

        Attention leaves its heads side by side: to see them as one dimension moves nothing, until it is stored.
        """
        self._of(node)
        return node in self._copying

    def copied(self, node: Node) -> Iterator[Node]:
        """The operands of an operator that its kernel reads copies of."""
        views = [operand for operand in node.all_input_nodes if operand.op == "call_function" and is_view(operand)]
        if views and _reads_rows(node):
            yield from (operand for operand in views if self._is_copied(node, operand))

    def _is_copied(self, node: Node, operand: Node) -> bool:
        if buffer_of(operand) is None or self.lies_dense(operand):
            return False
        if node.target is not aten.scaled_dot_product_attention.default:
            return True
        value = value_of(operand)
        return any(not stride and extent > 1 for extent, stride in zip(value.shape, value.stride(), strict=True))

    def _of(self, node: Node) -> Any:
        if node not in self._seen:
            is_operator = node.op == "call_function" and is_view(node)
            self._seen[node] = self._viewed(node) if is_operator else _dense(node.meta["val"])
        return self._seen[node]

    def _viewed(self, node: Node) -> Any:
        source = self._of(node.args[0])  # type: ignore[arg-type]
        try:
            seen = node.target(source, *node.args[1:], **node.kwargs)  # type: ignore[operator]
        except RuntimeError:
            seen = None
        if isinstance(seen, torch.Tensor) and isinstance(source, torch.Tensor) and not seen._is_view():
            seen = seen if seen is source else None
        if seen is None:
            self._copying.add(node)
            return _dense(value_of(node))
        return seen


def _dense(value: Any) -> Any:
    """Tensors of the same shapes and dtypes that hold no data and lie dense."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_dense, value))
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def _reads_rows(node: Node) -> bool:
    """Whether an operator reads some elements of its operands together, or one of them for several results."""
    if node.target is aten.group_norm.default:  # its statistics are found where they lie
        return False
    return node_flops(node) > 0 and torch.Tag.pointwise not in getattr(node.target, "tags", ())

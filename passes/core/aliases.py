"""Which values share storage: views followed to the buffer they look into."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node

from penstock.passes.core.shapes import nbytes, value_of

aten = torch.ops.aten

_VIEW_IF_POSSIBLE = frozenset(
    {aten.reshape.default, aten.flatten.using_ints, aten.contiguous.default, aten._to_copy.default}
)
"""Operators that yield a view where strides and dtype allow it and a copy otherwise; the schema cannot say which."""


@dataclass(frozen=True)
class Buffer:
    """One piece of storage: what the `index`-th result of `node` was allocated for."""

    node: Node
    index: int = 0

    @property
    def bytes(self) -> int:
        """Its size."""
        value = value_of(self.node)
        return nbytes(value if isinstance(value, torch.Tensor) else value[self.index])


def buffer_of(node: Node) -> Buffer | None:
    """The buffer that a tensor looks into; None for weights and their views."""
    while is_view(node):
        source = node.args[0]
        assert isinstance(source, Node)
        if node.target is operator.getitem and not is_view(source):
            return Buffer(source, int(node.args[1]))  # type: ignore[arg-type]
        node = source
    return None if node.op == "get_attr" else Buffer(node)


def buffers_of(graph: Graph) -> dict[Node, tuple[Buffer, ...]]:
    """For each node, the buffers that its results look into: one for a tensor, one per item for a tuple.

    Weights (``get_attr``) and whatever only looks into them have none: they are counted apart.
    """
    buffers: dict[Node, tuple[Buffer, ...]] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            buffers[node] = (Buffer(node),)
        elif node.op == "get_attr":
            buffers[node] = ()
        elif node.op == "call_function":
            buffers[node] = _buffers_of_call(node, buffers)
    return buffers


def _buffers_of_call(node: Node, buffers: dict[Node, tuple[Buffer, ...]]) -> tuple[Buffer, ...]:
    value = value_of(node)
    count = 1 if isinstance(value, torch.Tensor) else len(value)
    if not is_view(node):
        return tuple(Buffer(node, index) for index in range(count))
    source = node.args[0]
    assert isinstance(source, Node)
    seen = buffers[source]
    if node.target is operator.getitem:
        return (seen[int(node.args[1])],) if seen else ()  # type: ignore[arg-type]
    return seen * count


def is_view(node: Node) -> bool:
    """Whether an operator moves no data: its results look into the storage of its first argument."""
    target = node.target
    if target is operator.getitem:
        return True
    if not isinstance(target, OpOverload) or not node.args or not isinstance(node.args[0], Node):
        return False
    if target in _VIEW_IF_POSSIBLE:
        return _can_view(value_of(node.args[0]), value_of(node))
    return any(result.alias_info is not None for result in target._schema.returns)


def _can_view(source: torch.Tensor, result: torch.Tensor) -> bool:
    """Whether `result`, which holds the elements of `source` in the same order, is a view of it.

    A copy is always contiguous, and a contiguous view has a contiguous source.
    """
    return source.dtype == result.dtype and (source.is_contiguous() or not result.is_contiguous())

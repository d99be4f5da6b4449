"""Where time goes: floating-point operations and bytes moved, per node, from shapes alone.

Operations: a multiply-add counts as two, a bias as nothing (it starts the sum), attention as its two products, an
elementwise operator or a reduction as one per element, however hard the element is. Copies and views count nothing.

Bytes: what a kernel of the one operator must read and write at least: each argument (weights included) once and each
result once. An extent that `expand` repeats is read once, and an operator that picks elements reads those it picks.
Attention is taken as fused: its scores are not moved. Views move nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.fx import GraphModule, Node

from penstock.passes.core.aliases import is_view
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.ops import CAUSAL_ATTENTION
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import nbytes, value_of
from penstock.passes.core.source import module_of, source_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """Operator nodes run, floating-point operations and bytes moved; costs add."""

    operators: int = 0
    flops: int = 0
    moved_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.operators + other.operators, self.flops + other.flops, self.moved_bytes + other.moved_bytes)

    def times(self, runs: int) -> Cost:
        """The cost of so many runs."""
        return Cost(self.operators * runs, self.flops * runs, self.moved_bytes * runs)


@dataclass(frozen=True)
class NodeCost:
    """What one run of one node costs."""

    graph: str
    node: str
    op: str
    module: str
    source: str
    cost: Cost


@dataclass(frozen=True)
class CostFigures:
    """What a Program costs.

    Attributes:
        nodes: every operator node of every graph once, in order.
        runs: how often the plan calls each graph.
    """

    nodes: tuple[NodeCost, ...]
    runs: Mapping[str, int]

    @cached_property
    def total(self) -> Cost:
        """Everything the plan runs."""
        return self.by_module.get("", Cost())

    @cached_property
    def by_operator(self) -> dict[str, Cost]:
        """By operator over all runs, most operations first."""
        rows = _sums((row.op, row.cost.times(self.runs[row.graph])) for row in self.nodes)
        return dict(sorted(rows.items(), key=lambda item: (-item[1].flops, -item[1].moved_bytes, item[0])))

    @cached_property
    def by_module(self) -> dict[str, Cost]:
        """By dotted module path over all runs, each with everything below it; '' is the whole model."""
        return _sums(
            (path, row.cost.times(self.runs[row.graph])) for row in self.nodes for path in _ancestors(row.module)
        )


def cost(program: Program) -> CostFigures:
    """Count a Program, which may be captured on fake tensors."""
    runs = dict.fromkeys(program.graphs, 0)
    for call, times in program.plan.calls():
        runs[call.graph] += times
    nodes = tuple(row for name, module in program.graphs.items() for row in _node_costs(name, module))
    return CostFigures(nodes, runs)


def _node_costs(graph: str, module: GraphModule) -> Iterator[NodeCost]:
    for node in module.graph.nodes:
        if node.op == "call_function":
            counted = Cost(1, node_flops(node), node_moved_bytes(node))
            yield NodeCost(graph, node.name, op_name(node), module_of(node), source_of(node), counted)


def _sums(rows: Iterator[tuple[str, Cost]]) -> dict[str, Cost]:
    sums: dict[str, Cost] = {}
    for key, value in rows:
        sums[key] = sums.get(key, Cost()) + value
    return sums


def _ancestors(path: str) -> Iterator[str]:
    """``''``, ``a``, ``a.b`` for ``a.b``."""
    yield ""
    parts = path.split(".") if path else []
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def node_moved_bytes(node: Node) -> int:
    """Bytes that one operator must move; 0 for a view."""
    if is_view(node):
        return 0
    written = nbytes(value_of(node))
    read = [_distinct_bytes(value_of(used)) for used in node.all_input_nodes]
    if node.target in _PICKS and read:
        read[0] = min(read[0], written)
    return sum(read) + written


def _distinct_bytes(value: Any) -> int:
    """Bytes of the elements that differ in place: an extent of stride 0 counts once."""
    if not isinstance(value, torch.Tensor):
        return sum(map(_distinct_bytes, value))
    extents = zip(value.shape, value.stride(), strict=True)
    return math.prod(extent for extent, stride in extents if stride or not extent) * value.element_size()


def node_flops(node: Node) -> int:
    """Floating-point operations of one operator; 0 for one that only moves data, and for one that is not known."""
    if is_view(node) or node.target in _COPIES:
        return 0
    contraction = _CONTRACTIONS.get(node.target)
    if contraction is not None:
        return contraction(node, arguments_of(node))
    per_element = _PER_ELEMENT_READ.get(node.target)
    tags = getattr(node.target, "tags", ())
    if per_element is None and torch.Tag.reduction in tags:
        per_element = 1
    if per_element is not None:
        return per_element * _elements(node.args[0])
    return _elements(node) if torch.Tag.pointwise in tags else 0


def _elements(node: Any) -> int:
    value = value_of(node)
    return int(value.numel()) if isinstance(value, torch.Tensor) else sum(int(item.numel()) for item in value)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(value_of(node).shape)


def _convolution(node: Node, arguments: Mapping[str, Any]) -> int:
    """A weight (out, in / groups, …) meets each element of the output once per input channel and kernel position."""
    return 2 * _elements(node) * math.prod(_shape(arguments["weight"])[1:])


def _transposed_convolution(node: Node, arguments: Mapping[str, Any]) -> int:
    """A weight (in, out / groups, …) meets each element of the input once per output channel and kernel position."""
    return 2 * _elements(arguments["input"]) * math.prod(_shape(arguments["weight"])[1:])


def _any_convolution(node: Node, arguments: Mapping[str, Any]) -> int:
    return (_transposed_convolution if arguments["transposed"] else _convolution)(node, arguments)


def _linear(node: Node, arguments: Mapping[str, Any]) -> int:
    return 2 * _elements(node) * _shape(arguments["input"])[-1]


def _product(node: Node, arguments: Mapping[str, Any]) -> int:
    return 2 * _elements(node) * _shape(arguments["self"])[-1]


def _product_and_sum(left: str) -> Callable[[Node, Mapping[str, Any]], int]:
    return lambda node, arguments: 2 * _elements(node) * _shape(arguments[left])[-1]


def _attention(node: Node, arguments: Mapping[str, Any]) -> int:
    query, key, value = (_shape(arguments[name]) for name in ("query", "key", "value"))
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


_CONTRACTIONS: dict[Any, Callable[[Node, Mapping[str, Any]], int]] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv3d.default: _convolution,
    aten.conv_transpose1d.default: _transposed_convolution,
    aten.conv_transpose2d.input: _transposed_convolution,
    aten.conv_transpose3d.input: _transposed_convolution,
    aten.convolution.default: _any_convolution,
    aten.linear.default: _linear,
    aten.matmul.default: _product,
    aten.mm.default: _product,
    aten.bmm.default: _product,
    aten.mv.default: _product,
    aten.dot.default: _product,
    aten.addmm.default: _product_and_sum("mat1"),
    aten.addmv.default: _product_and_sum("mat"),
    aten.baddbmm.default: _product_and_sum("batch1"),
    aten.scaled_dot_product_attention.default: _attention,
    CAUSAL_ATTENTION: _attention,
}

_PER_ELEMENT_READ: dict[Any, int] = {
    # Mean, variance (subtract, square, add), then subtract, divide, multiply and add.
    aten.layer_norm.default: 8,
    aten.native_layer_norm.default: 8,
    aten.group_norm.default: 8,
    aten.native_group_norm.default: 8,
    aten.instance_norm.default: 8,
    aten.rms_norm.default: 4,
    # Maximum, subtract, exponentiate, sum, divide.
    aten.softmax.int: 5,
    aten._softmax.default: 5,
    aten.log_softmax.int: 5,
    aten.cumsum.default: 1,
    aten.avg_pool2d.default: 1,
    aten.avg_pool3d.default: 1,
    aten.max_pool2d.default: 1,
}
"""Operations per element of the first argument, for operators without a tag that says so."""

_COPIES = frozenset({aten.clone.default})
"""Operators that torch calls elementwise, but that compute nothing."""

_PICKS = frozenset({aten.embedding.default, aten.gather.default, aten.index.Tensor, aten.index_select.default})
"""Operators that read of their first argument only what they return."""

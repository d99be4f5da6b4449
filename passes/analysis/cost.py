"""Where time goes: floating-point operations and bytes moved, per node, from shapes alone.

A multiply-add counts as two operations. Bytes are what a kernel of the one operator must read and write at least: its
tensor arguments (weights included) once, and its results. Views cost nothing. Attention is counted as fused: its scores
are computed but not moved.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.fx import GraphModule, Node

from penstock.passes.analysis.aliases import is_view
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import nbytes, value_of
from penstock.passes.core.source import module_of, source_of

aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """Operations and bytes; costs add."""

    operators: int = 0
    flops: int = 0
    moved_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.operators + other.operators, self.flops + other.flops, self.moved_bytes + other.moved_bytes)


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

    def _scaled(self) -> Iterator[tuple[NodeCost, Cost]]:
        for node in self.nodes:
            runs = self.runs[node.graph]
            yield node, Cost(runs, node.cost.flops * runs, node.cost.moved_bytes * runs)

    @cached_property
    def total(self) -> Cost:
        """Everything the plan runs."""
        return sum((cost for _, cost in self._scaled()), Cost())

    @cached_property
    def by_operator(self) -> dict[str, Cost]:
        """By operator, most FLOPs first."""
        rows: dict[str, Cost] = {}
        for node, cost in self._scaled():
            rows[node.op] = rows.get(node.op, Cost()) + cost
        return dict(sorted(rows.items(), key=lambda item: (-item[1].flops, -item[1].moved_bytes, item[0])))

    @cached_property
    def by_module(self) -> dict[str, Cost]:
        """By dotted module path, each with everything below it, in order of first use; '' is the whole model."""
        rows: dict[str, Cost] = {}
        for node, cost in self._scaled():
            parts = node.module.split(".") if node.module else []
            for depth in range(len(parts) + 1):
                path = ".".join(parts[:depth])
                rows[path] = rows.get(path, Cost()) + cost
        return rows


def cost(program: Program) -> CostFigures:
    """Count a Program, which may be captured on fake tensors."""
    runs = dict.fromkeys(program.graphs, 0)
    for op in program.plan.ops():
        runs[op.graph] += 1
    nodes = tuple(row for name, module in program.graphs.items() for row in _of_graph(name, module))
    return CostFigures(nodes, runs)


def _of_graph(name: str, module: GraphModule) -> Iterator[NodeCost]:
    for node in module.graph.nodes:
        if node.op == "call_function":
            counted = Cost(1, node_flops(node), node_bytes(node))
            yield NodeCost(name, node.name, op_name(node), module_of(node), source_of(node), counted)


def node_bytes(node: Node) -> int:
    """Bytes that one operator must move: arguments and results once each, 0 for a view."""
    if node.target is operator.getitem or is_view(node):
        return 0
    return sum(nbytes(value_of(used)) for used in node.all_input_nodes) + nbytes(value_of(node))


def node_flops(node: Node) -> int:
    """Floating-point operations of one operator."""
    if node.target is operator.getitem or is_view(node):
        return 0
    count = _CONTRACTIONS.get(node.target)
    if count is not None:
        return count(node)
    per_element = _PER_ELEMENT.get(node.target)
    if per_element is not None:
        return per_element * _elements(node.args[0] if isinstance(node.args[0], Node) else node)
    if torch.Tag.pointwise in getattr(node.target, "tags", ()):
        return _elements(node)
    return 0


def _elements(node: Any) -> int:
    value = value_of(node)
    return int(value.numel()) if isinstance(value, torch.Tensor) else sum(int(item.numel()) for item in value)


def _shape(argument: Any) -> tuple[int, ...]:
    return tuple(value_of(argument).shape)


def _convolution(node: Node) -> int:
    weight = _shape(node.args[1])
    return 2 * _elements(node) * math.prod(weight[1:]) + _bias(node, 2)


def _transposed_convolution(node: Node) -> int:
    weight = _shape(node.args[1])
    return 2 * _elements(node.args[0]) * math.prod(weight[1:]) + _bias(node, 2)


def _linear(node: Node) -> int:
    return 2 * _elements(node) * _shape(node.args[1])[-1] + _bias(node, 2)


def _bias(node: Node, position: int) -> int:
    return _elements(node) if len(node.args) > position and isinstance(node.args[position], Node) else 0


def _product(node: Node) -> int:
    return 2 * _elements(node) * _shape(node.args[0])[-1]


def _product_and_sum(node: Node) -> int:
    return 2 * _elements(node) * _shape(node.args[1])[-1] + _elements(node)


def _attention(node: Node) -> int:
    query, key, value = (_shape(argument) for argument in node.args[:3])
    scores = math.prod(query[:-1]) * key[-2]
    # The two products, and the softmax between them (scale, maximum, subtract, exponentiate, sum, divide).
    return 2 * scores * query[-1] + 2 * scores * value[-1] + 6 * scores


_CONTRACTIONS: dict[Any, Callable[[Node], int]] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv3d.default: _convolution,
    aten.conv_transpose1d.default: _transposed_convolution,
    aten.conv_transpose2d.input: _transposed_convolution,
    aten.conv_transpose3d.input: _transposed_convolution,
    aten.linear.default: _linear,
    aten.matmul.default: _product,
    aten.mm.default: _product,
    aten.bmm.default: _product,
    aten.addmm.default: _product_and_sum,
    aten.baddbmm.default: _product_and_sum,
    aten.scaled_dot_product_attention.default: _attention,
}

_PER_ELEMENT: dict[Any, int] = {
    # Norms: two sweeps for mean and variance, then subtract, scale, multiply and add.
    aten.layer_norm.default: 8,
    aten.native_layer_norm.default: 8,
    aten.group_norm.default: 8,
    aten.native_group_norm.default: 8,
    aten.instance_norm.default: 8,
    aten.rms_norm.default: 4,
    aten.softmax.int: 5,
    aten._softmax.default: 5,
    aten.log_softmax.int: 5,
    aten.gelu.default: 8,
    aten.silu.default: 4,
    # Reductions: one operation per element read.
    aten.sum.dim_IntList: 1,
    aten.mean.dim: 1,
    aten.amax.default: 1,
    aten.amin.default: 1,
    aten.var.correction: 4,
    aten.linalg_vector_norm.default: 2,
    aten.cumsum.default: 1,
    aten.avg_pool2d.default: 1,
    aten.max_pool2d.default: 1,
    aten.upsample_bilinear2d.vec: 8,
}
"""Operations per element of the first argument, for operators that are not one-to-one."""

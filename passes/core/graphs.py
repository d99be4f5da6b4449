"""Copies of FX graphs, modules over them, and their dead nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx._lazy_graph_module import _LazyGraphModule


def copy_graph(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """A copy of a graph with the same names, and the map from old to new nodes."""
    copy = Graph()
    mapping: dict[Node, Node] = {}
    result = copy.graph_copy(graph, mapping)
    mapping[graph.output_node()] = copy.output(result)
    for old, new in mapping.items():
        new.name = old.name
        new.meta = dict(old.meta)
    return copy, mapping


def make_module(weights: dict[str, torch.Tensor], graph: Graph, name: str = "Graph") -> GraphModule:
    """A `GraphModule` over a graph, with weights at their dotted names.

    Passes make many, of which few are ever called: FX writes and compiles the code of one when it is asked for.
    """
    root: dict[str, Any] = dict(weights)
    return _LazyGraphModule(root, graph, class_name=name)


def eliminate_dead_nodes(graph: Graph) -> int:
    """Erase every operator and weight node that nothing uses; returns how many.

    FX's own elimination keeps random-tagged operators (attention among them) as impure. In the dialect nothing is
    impure, so whatever is unused goes.
    """
    erased = 0
    for node in reversed(list(graph.nodes)):
        if node.op in ("call_function", "get_attr") and not node.users:
            graph.erase_node(node)
            erased += 1
    return erased

"""Graphs that differ in their weights alone, as those of a model's blocks do: one is compiled and serves all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import replace

from torch.fx import GraphModule

from penstock.backends.plan.launches import Body
from penstock.backends.tvm.lower import is_number
from penstock.passes.core.program import attribute
from penstock.passes.core.skeleton import skeleton_of


def first_of_each(graphs: Mapping[str, GraphModule], tied: Set[str] = frozenset()) -> dict[str, str]:
    """For each graph, the first that compiles to the same launches on other weights; itself where there is none.

    Args:
        tied: the weights that embeddings find packed.
    """
    firsts: dict[Hashable, str] = {}
    return {name: firsts.setdefault(_likeness(graph, tied), name) for name, graph in graphs.items()}


def on_other_weights(body: Body, weights: Sequence[str], others: Sequence[str]) -> Body:
    """The launches of a graph as those of its twin.

    Args:
        weights: what the graph reads.
        others: what the twin reads in their place, in the same order.
    """
    named = dict(zip(weights, others, strict=True))
    storages = [replace(each, weight=named.get(each.weight, each.weight)) for each in body.storages]
    return replace(body, storages=tuple(storages))


def _likeness(graph: GraphModule, tied: Set[str]) -> Hashable:
    """What a graph compiles to: it depends on its operators, on which weights are one or tied, and on numbers."""
    places: dict[str, int] = {}
    held = []
    for node in graph.graph.find_nodes(op="get_attr"):
        tensor = attribute(graph, str(node.target))
        number = repr(tensor.item()) if is_number(tensor) else None
        name = str(node.target)
        held.append((places.setdefault(name, len(places)), name in tied, number))
    return skeleton_of(graph), tuple(held)

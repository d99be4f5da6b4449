"""Which operators a plan runs at which sizes: each has to be compiled and stored once, however often it runs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.fx import Node

from penstock.passes.slicing.facts import Facts
from penstock.passes.slicing.spans import Spans, clipped
from penstock.passes.slicing.tiling import Tiling

aten = torch.ops.aten
Kernels = frozenset[int]
"""Fingerprints of operators, each of a target, of arguments that are no tensors, and of shapes."""

OPERATOR = 1e-3  # seconds of running that an operator more to compile and to store is worth


def cost(seconds: float, kernels: Kernels) -> float:
    """What plans are compared by: the time, and a little for every operator that has to be compiled."""
    return seconds + OPERATOR * len(kernels)


def of_nodes(nodes: Iterable[Node], facts: Facts) -> Kernels:
    """Of operators that run as they are."""
    return frozenset(facts[node].kernel for node in nodes if not facts[node].is_view)


def of_parts(tiling: Tiling, parts: Iterable[Spans], reduction: Node | None, count: int) -> Kernels:
    """Of the graphs of some parts.

    Args:
        reduction: what is kept of each part in a sweep; None where the parts are.
        count: how many parts are merged then.
    """
    found = {kernel for part in parts for kernel in _of_part(tiling, part)}
    if reduction is not None:
        fact = tiling.facts[reduction]
        extents = [tile for part in parts for tile in part.tiles.values()]
        found.update(hash((fact.signature, fact.shape, high - low)) for low, high in extents)
        found.update(hash((fact.signature, fact.shape, count, step)) for step in range(_MERGE))
    return frozenset(found)


_MERGE = 4  # operators that put the reductions of parts together, about


def _of_part(tiling: Tiling, part: Spans) -> Iterable[int]:
    for node, (low, high) in part.made.items():
        fact, needs = tiling.facts[node], tiling.needs[node]
        if fact.is_view:
            continue
        shapes = []
        for key, source in tiling.sources[node].items():
            need, shape = needs[key], tiling.facts[source].shape
            if need is not None:
                (first, last), padding = clipped(need, (low, high))
                shape = (*need.axis.resized(shape, last - first), *(padding if any(padding) else ()))
            shapes.append(shape)
            if need is not None and part.taken and part.is_joined(source, first, last):
                yield hash((aten.cat.default, shape))
        yield hash((fact.signature, tiling.axes[node].resized(fact.shape, high - low), *shapes))
    for node, (low, high) in part.kept.items():
        yield hash((aten.clone.default, tiling.axes[node].resized(tiling.facts[node].shape, high - low)))

"""Fusion within a number of bytes: neighbours that became one kernel are taken apart again where that needs too much.

A kernel runs once the operands of all operators in it are there, and needs all of them until then. An operator that
would have left less than it read, before much else was alive, is made late that way. Where a kernel itself runs with
too much alive, its operators one after the other may do with less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, replace

import torch
import tvm

from penstock.backends.plan.launches import Body, Launch
from penstock.backends.plan.timeline import Timeline
from penstock.backends.targets import Target
from penstock.backends.tvm.launches import KernelTable, launch_lists
from penstock.backends.tvm.lower import lower, weights_of
from penstock.backends.tvm.panels import tied_weights
from penstock.backends.tvm.pipeline import Fused, fused, scheduled
from penstock.backends.tvm.twins import first_of_each, on_other_weights
from penstock.passes.core.program import Program

_PATIENCE = 2  # rounds that do not help, after which fusion is left as it is best


@dataclass(frozen=True)
class Launches:
    """The launches of a Program, with neighbours fused.

    Attributes:
        table: every loop nest.
        bodies: the launches of each graph; those of graphs that differ in their weights alone are made for the first.
        packed: the weights among those of the launches that are the Program's in another order, by name.
        nodes: for each graph that launches were made for, the variables that are values of nodes in memory of their
            own, with the nodes' names.
        neighbours: for each of these graphs, the module that its kernels are from.
    """

    table: KernelTable
    bodies: dict[str, Body]
    packed: dict[str, torch.Tensor]
    nodes: dict[str, dict[str, str]]
    neighbours: dict[str, Fused]


def launches_within(program: Program, target: Target, built_for: tvm.target.Target, room: int | None) -> Launches:
    """The launches of a legalised Program, in no more than some bytes if fusion can help it.

    Args:
        room: bytes of values, inputs and outputs included; None for no limit.
    """
    tied = tied_weights(program)
    firsts = first_of_each(program.graphs, tied)
    apart: dict[str, set[str]] = {}
    best: tuple[tuple[int, int], Launches] | None = None
    found = Launches(KernelTable(), {}, {}, {}, {})
    changed, in_vain = [*dict.fromkeys(firsts.values())], 0
    while changed and in_vain < _PATIENCE:
        found = _again(found, program, built_for, apart, changed, firsts, tied)
        if room is None:
            return found
        nests = tuple(found.table.nests.values())
        timeline = Timeline(nests, found.bodies, program.plan, program.signature, target.limits)
        above = max(timeline.live), sum(max(0, live - room) for live in timeline.live)
        in_vain = 0 if best is None or above < best[0] else in_vain + 1
        if not in_vain:
            best = above, found
        crowded = {launch.made for launch in timeline.crowded(room)}
        late = _made_late(found, crowded) or _inside(found, crowded)
        new = {graph for graph, node in late if node not in apart.get(graph, ())}
        changed = [graph for graph in found.nodes if graph in new]
        for graph, node in late:
            apart.setdefault(graph, set()).add(node)
    assert best is not None
    table, bodies = best[1].table.used_by(best[1].bodies)
    return replace(best[1], table=table, bodies=bodies)


def _again(
    known: Launches,
    program: Program,
    built_for: tvm.target.Target,
    apart: Mapping[str, Set[str]],
    graphs: Collection[str],
    firsts: Mapping[str, str],
    tied: Set[str],
) -> Launches:
    """Launches in which some graphs are made anew, for themselves and for those that they are the first of."""
    lowered = lower(program, apart, graphs)
    neighbours = fused(lowered.module, built_for)
    table, bodies = launch_lists(scheduled(neighbours.module, built_for), lowered.weights, known.table)
    packed = {**known.packed, **lowered.packed}
    twins = {
        name: on_other_weights(bodies[first], lowered.weights[first], weights_of(program.graphs[name], packed, tied))
        for name, first in firsts.items()
        if first in bodies and name != first
    }
    return Launches(
        table,
        {**known.bodies, **bodies, **twins},
        packed,
        {**known.nodes, **lowered.nodes},
        {**known.neighbours, **dict.fromkeys(graphs, neighbours)},
    )


def _made_late(found: Launches, crowded: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The graphs and nodes that a kernel makes on its way, behind a crowded kernel that they stand before."""
    late: set[tuple[str, str]] = set()
    for graph in found.nodes:
        body = found.bodies[graph]
        places = {node: place for place, node in enumerate(found.nodes[graph].values())}
        reached = behind = 0
        for made, nodes in _kernels(graph, body, found):
            late |= {(graph, node) for node in nodes[:-1] if node is not None and places[node] < behind}
            reached = max([reached, *(places[node] for node in nodes if node is not None)])
            if (graph, made) in crowded:
                behind = reached
    return late


def _inside(found: Launches, crowded: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The graphs and nodes that crowded kernels make on their way."""
    return {
        (graph, node)
        for graph in found.nodes
        for made, nodes in _kernels(graph, found.bodies[graph], found)
        for node in nodes[:-1]
        if node is not None and (graph, made) in crowded
    }


def _kernels(graph: str, body: Body, found: Launches) -> Iterator[tuple[str, list[str | None]]]:
    """What each kernel of a graph makes, and the nodes in it; None for what is no node's value, such as a view."""
    for made in dict.fromkeys(op.made[1] for op in body.ops if isinstance(op, Launch)):
        inside = found.neighbours[graph].inside.get((graph, made), (made,))
        yield made, [found.nodes[graph].get(variable) if variable else None for variable in inside]

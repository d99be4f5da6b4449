"""Fusion within a number of bytes: neighbours that became one kernel are taken apart again where that needs too much.

A kernel runs where its last operator stands, and needs the operands of all operators in it until then. An operator that
would have left less than it read, before much else was alive, is made late that way. Where a kernel itself runs with
too much alive, its operators one after the other may do with less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import tvm

from penstock.backends.plan.launches import Body, Launch
from penstock.backends.plan.timeline import Timeline
from penstock.backends.targets import Target
from penstock.backends.tvm.launches import KernelTable, launch_lists
from penstock.backends.tvm.lower import Lowered, lower
from penstock.backends.tvm.pipeline import Fused, fused, scheduled
from penstock.passes.core.program import Program


@dataclass(frozen=True)
class Launches:
    """The launches of a Program, with neighbours fused.

    Attributes:
        lowered: the Program before that.
        table: every loop nest.
        bodies: the launches of each graph.
    """

    lowered: Lowered
    table: KernelTable
    bodies: dict[str, Body]


def launches_within(program: Program, target: Target, built_for: tvm.target.Target, room: int | None) -> Launches:
    """The launches of a legalised Program, in no more than some bytes if fusion can help it.

    Args:
        room: bytes of values, inputs and outputs included; None for no limit.
    """
    apart: dict[str, set[str]] = {}
    best: tuple[int, Launches] | None = None
    while True:
        lowered = lower(program, apart)
        neighbours = fused(lowered.module, built_for)
        table, bodies = launch_lists(scheduled(neighbours.module, built_for), lowered.weights)
        found = Launches(lowered, table, bodies)
        if room is None:
            return found
        nests = tuple(table.nests.values())
        timeline = Timeline(nests, bodies, program.plan, program.signature, target.limits)
        most = max(timeline.live)
        if best is None or most < best[0]:
            best = most, found
        crowded = {launch.made for launch in timeline.crowded(room)}
        late = _made_late(found, neighbours, crowded) or _inside(found, neighbours, crowded)
        known = sum(map(len, apart.values()))
        for graph, node in late:
            apart.setdefault(graph, set()).add(node)
        if sum(map(len, apart.values())) == known:
            return best[1]


def _made_late(found: Launches, neighbours: Fused, crowded: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The graphs and nodes that a kernel makes on its way, behind a crowded kernel that they stand before."""
    late: set[tuple[str, str]] = set()
    for graph, body in found.bodies.items():
        places = {node: place for place, node in enumerate(found.lowered.nodes[graph].values())}
        reached = behind = 0
        for made, nodes in _kernels(graph, body, found.lowered.nodes[graph], neighbours):
            late |= {(graph, node) for node in nodes[:-1] if node is not None and places[node] < behind}
            reached = max([reached, *(places[node] for node in nodes if node is not None)])
            if (graph, made) in crowded:
                behind = reached
    return late


def _inside(found: Launches, neighbours: Fused, crowded: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The graphs and nodes that crowded kernels make on their way."""
    return {
        (graph, node)
        for graph, body in found.bodies.items()
        for made, nodes in _kernels(graph, body, found.lowered.nodes[graph], neighbours)
        for node in nodes[:-1]
        if node is not None and (graph, made) in crowded
    }


def _kernels(
    graph: str, body: Body, nodes: Mapping[str, str], neighbours: Fused
) -> Iterator[tuple[str, list[str | None]]]:
    """What each kernel of a graph makes, and the nodes in it; None for what is no node's value, such as a view."""
    for made in dict.fromkeys(op.made[1] for op in body.ops if isinstance(op, Launch)):
        yield made, [nodes.get(variable) for variable in neighbours.inside.get((graph, made), (made,))]

"""Values that wait long for their next use and are cheap to make again: make them again there.

Source: T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, section 3, where it is done for the
backward pass; here for what waits across a network, such as the first skip connection of a UNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import nbytes, value_of
from penstock.passes.slicing.estimates import seconds_of
from penstock.passes.slicing.timeline import Timeline

_WAIT = 40  # operators: a shorter wait is inside of a group, or next to it
_SMALL = 16  # what is this many times smaller than the value is kept instead of it
_SHARE = 0.02  # of the graph's time that making one value again may take


def rematerialized(module: GraphModule, line: Timeline, budget: int) -> GraphModule:
    """The graph, in which values that wait while more is alive than a budget are made again, where that is cheap.

    Args:
        line: the liveness of the graph.
    """
    allowed = _SHARE * sum(seconds_of(node) for node in line.nodes)
    index = {node: place for place, node in enumerate(line.nodes)}
    uses: dict[Node, list[Node]] = {}
    for node in line.nodes:
        for source in node.all_input_nodes:
            uses.setdefault(line.base[source], []).append(node)
    edit = Rewriter(module, made_by="feature-slicing")
    for value in line.nodes:
        if line.base[value] is not value or line.last_use[value] >= len(line.nodes) or value not in uses:
            continue
        late = _after_waits(index[value], uses[value], index, line, budget)
        chains = [_chain(value, together, line, index[together[0]]) for together in late]
        if sum(seconds_of(node) for chain in chains for node in chain or ()) > allowed:
            continue
        for together, chain in zip(late, chains, strict=True):
            if chain is not None:
                _make_again(edit, chain, together)
    return edit.finish() if edit.changed else module


def _make_again(edit: Rewriter, chain: Sequence[Node], uses: Sequence[Node]) -> None:
    now = dict(edit.origin)
    emit = edit.at(edit.origin[uses[0]])
    for node in chain:
        args, kwargs = map_arg(node.args, now.__getitem__), map_arg(node.kwargs, now.__getitem__)
        now[node] = emit(node.target, *args, **kwargs)  # type: ignore[arg-type]
    for use in uses:
        for node in chain:
            edit.origin[use].replace_input_with(edit.origin[node], now[node])


def _after_waits(
    made: int, uses: Sequence[Node], index: Mapping[Node, int], line: Timeline, budget: int
) -> list[list[Node]]:
    """The uses of a value after each long wait while more is alive than the budget."""
    found: list[list[Node]] = []
    before = made
    for use in uses:
        after = index[use]
        if after - before > _WAIT and max(line.during[before + 1 : after]) > budget:
            found.append([])
        if found:
            found[-1].append(use)
        before = after
    return found


def _chain(value: Node, late: Sequence[Node], line: Timeline, at: int) -> list[Node] | None:
    """The operators that make a value and its views again for late uses, in order; None if that holds too much."""
    limit = nbytes(value_of(value)) // _SMALL
    needed: set[Node] = {source for use in late for source in use.all_input_nodes if line.base[source] is value}
    chain: list[Node] = []
    held: set[Node] = set()
    for node in reversed(line.nodes[:at]):
        if node not in needed:
            continue
        if not isinstance(node.target, OpOverload) or torch.Tag.nondeterministic_seeded in node.target.tags:
            return None
        chain.append(node)
        for source in node.all_input_nodes:
            if source.op == "call_function" and nbytes(value_of(source)) > limit:
                needed.add(source)
            elif line.last_use.get(line.base[source], at) < at:
                held.add(line.base[source])
    if sum(nbytes(value_of(node)) for node in held) > nbytes(value_of(value)) // 4:
        return None
    return chain[::-1]

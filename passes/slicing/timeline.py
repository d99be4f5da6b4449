"""Liveness of one graph at the borders between its operators, for the planner."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.fx import GraphModule, Node

from penstock.passes.analysis.memory import Attention, score_bytes
from penstock.passes.core.aliases import Buffer, buffers_of, is_view
from penstock.passes.core.ops import CAUSAL_ATTENTION
from penstock.passes.core.overwriting import takeovers
from penstock.passes.core.program import placeholders, result_nodes
from penstock.passes.core.shapes import value_of
from penstock.passes.slicing.facts import Facts, counted
from penstock.passes.slicing.spans import Spans, Window, clipped
from penstock.passes.slicing.tiling import PART_OF, Tiling

aten = torch.ops.aten


@dataclass(frozen=True)
class Timeline:
    """Where the bytes of a graph are.

    Attributes:
        nodes: its operators in order.
        live: bytes alive at the border before each operator, and after the last.
        during: bytes alive while each operator runs; a result may lie where an operand dies.
        base: for each node, the value that it looks into: itself, unless it is a view. Only bases pass from one step of
            a plan to the next; views are made again where they are used. One of several results is a base, too.
        last_use: for each base, the index of the last operator that uses it or a view of it; the number of operators
            for a result of the graph, -1 for what nothing uses.
        origins: for each operator, counted from 0, that of which it and its neighbours are a part.
        inside: borders between an operator with several results and those that choose from them: no run ends there, as
            one tensor at a time passes from one step to the next.
    """

    nodes: tuple[Node, ...]
    live: tuple[int, ...]
    during: tuple[int, ...]
    base: Mapping[Node, Node]
    last_use: Mapping[Node, int]
    origins: tuple[int, ...]
    inside: frozenset[int] = frozenset()

    @cached_property
    def _views_of(self) -> Mapping[Node, tuple[Node, ...]]:
        """For each operator, its arguments that are views."""
        return {
            node: tuple(source for source in node.all_input_nodes if self.base[source] is not source)
            for node in self.nodes
        }

    def with_views(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """Some operators, and before them the views from elsewhere that they use."""
        inside = set(nodes)
        before: dict[Node, None] = {}

        def add(node: Node) -> None:
            for source in self._views_of[node]:
                if source not in inside and source not in before:
                    add(source)
                    before[source] = None

        for node in nodes:
            add(node)
        return (*before, *nodes)


def timeline(
    module: GraphModule, attention: Attention, free: frozenset[Node] = frozenset(), largest: int | None = None
) -> Timeline:
    """The liveness of a graph whose arguments die after their last use; those of `free` count for nothing.

    Args:
        largest: bytes that no single value may exceed; where one does, more is alive than any budget.
    """
    nodes = tuple(node for node in module.graph.nodes if node.op == "call_function")
    count = len(nodes)
    buffers = buffers_of(module.graph)
    last_use: dict[Node, int] = {}
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for parameter in placeholders(module):
        last_use[parameter] = -1
        for buffer in buffers[parameter]:
            first[buffer] = last[buffer] = -1
    base = {node: node for node in module.graph.nodes}
    for index, node in enumerate(nodes):
        if is_view(node) and isinstance(node.args[0], Node) and isinstance(value_of(node.args[0]), torch.Tensor):
            base[node] = base[node.args[0]]
        else:
            last_use[node] = -1
        for buffer in buffers[node]:
            first.setdefault(buffer, index)
            last[buffer] = max(last.get(buffer, index), index)
        for source in node.all_input_nodes:
            last_use[base[source]] = index
            for buffer in buffers[source]:
                last[buffer] = index
    for result in result_nodes(module):
        last_use[base[result]] = count
        for buffer in buffers[result]:
            last[buffer] = count
    arguments = {Buffer(parameter) for parameter in placeholders(module)}
    taken_over = {buffers[operand][0] for operand in takeovers(nodes, last, arguments).values()}
    live, during = [0] * (count + 2), [0] * (count + 1)
    for buffer, made in first.items():
        size = 0 if buffer.node in free else counted(buffer.bytes, largest)
        live[made + 1] += size
        live[last[buffer] + 1] -= size
        during[max(made, 0)] += size
        during[min(last[buffer] + 1 - (buffer in taken_over), count)] -= size
    for line in (live, during):
        for index in range(1, len(line)):
            line[index] += line[index - 1]
    scratch = [score_bytes(node) if attention == "materialized" else 0 for node in nodes]
    return Timeline(
        nodes,
        tuple(live[: count + 1]),
        tuple(bytes_ + extra for bytes_, extra in zip(during, scratch, strict=False)),
        base,
        last_use,
        tuple(_origins(nodes)),
        frozenset(
            border
            for index, node in enumerate(nodes)
            if not isinstance(value_of(node), torch.Tensor)
            for border in range(index + 1, last_use[base[node]] + 1)
        ),
    )


def _origins(nodes: Sequence[Node]) -> Iterator[int]:
    count, known = -1, ""
    for node in nodes:
        name = str(node.meta.get(PART_OF, node.name))
        if name != known:
            count, known = count + 1, name
        yield count


def part_bytes(tiling: Tiling, found: Spans, attention: Attention) -> int:
    """The most bytes alive inside of one part: results in parts, and gathered windows.

    What the part takes from the one before it, and what it keeps, lies in memory of the loop; but what it keeps of both
    is put together elsewhere.
    """
    facts = tiling.facts
    running = [node for node in tiling.sliced if node in found.made]
    sizes: dict[object, int] = {}
    first: dict[object, int] = {}  # by moment: an operator, or the joining or the padding of what one reads
    last: dict[object, int] = {}
    owner: dict[Node, object] = {}  # what a result lies in
    used: dict[Node, list[tuple[Node, object]]] = {}  # the arguments that are not held outside, and what they lie in
    moment_of: dict[Node, int] = {}
    moments = 0
    for node in running:
        used[node] = []
        for key, source, need in tiling.reads[node]:
            (low, high), _ = clipped(need, found.made[node])
            padding = sum(found.padding[node][key]) if node.target is not aten.constant_pad_nd.default else 0
            holder: object = (source, need.axis)
            if holder in found.windows and holder not in first:
                sizes[holder] = gathered_bytes(tiling, found, (source, need.axis))
                first[holder] = 0  # parts are gathered before the first operator runs
            if source in tiling.needs:
                holder = owner.get(source)
                if found.taken and found.is_joined(source, low, high):
                    last[holder] = moments
                    begin, end = found.to_join(source, low, high)
                    holder = (source, begin, end)
                    if holder not in first:
                        sizes[holder] = facts[source].bytes * (end - begin) // need.axis.size
                        first[holder] = moments
                        moments += 1
                elif source in found.taken and low < found.taken[source][1]:
                    holder = None
            if padding:
                last[holder] = moments
                holder = (node, key)
                sizes[holder] = facts[source].bytes * (high - low + padding) // need.axis.size
                first[holder] = moments
                moments += 1
            if holder in first:
                used[node].append((source, holder))
        for _, holder in used[node]:
            last[holder] = moments
        owner[node] = used[node][0][1] if facts[node].is_view and used[node] else node
        if isinstance(owner[node], tuple) and facts.views.copies(node):
            owner[node] = node
        if owner[node] is node:
            low, high = found.made[node]
            sizes[node] = counted(facts[node].bytes * (high - low) // tiling.axes[node].size, facts.largest)
            first[node] = moments
        last[owner[node]] = moment_of[node] = moments
        moments += 1
    outputs = {owner[output] for output in found.tiles}
    for holder in outputs:
        last[holder] = moments - 1
    change = [0] * (moments + 1)
    over: set[object] = set()  # what a result takes the memory of
    for node in running:
        for source, holder in used[node] if owner[node] is node else ():
            dies = holder not in outputs and last[holder] == moment_of[node]
            if dies and source in facts[node].overwritable and sizes[holder] == sizes[node]:
                over.add(holder)
                break
    for holder, size in sizes.items():
        change[first[holder]] += size
        change[last[holder] + (holder not in over)] -= size
    live = list(itertools.accumulate(change))
    most = max(live)
    for node in running:
        extra = 0
        if node.target is CAUSAL_ATTENTION:
            extra += _mask_bytes(tiling, found, node)
        if attention == "materialized" and score_bytes(node):
            low, high = found.made[node]
            extra += score_bytes(node) * (high - low) // tiling.axes[node].size
        most = max(most, live[moment_of[node]] + extra)
    both = found.kept_of_both.items()
    return most + sum(facts[node].bytes * (high - low) // tiling.axes[node].size for node, (low, high) in both)


def gathered_bytes(tiling: Tiling, found: Spans, window: Window) -> int:
    """Bytes of a window's copy; none where its positions lie side by side, for then it is read where it is."""
    source, axis = window
    held = tiling.facts[source]
    if axis.is_contiguous(held.shape):
        return 0
    low, high = found.windows[window]
    return held.bytes * (high - low) // axis.size


def _mask_bytes(tiling: Tiling, found: Spans, node: Node) -> int:
    """Bytes of the mask that some queries of causal attention need, as a condition and as what is added to scores."""
    if tiling.needs[node]["positions"] is None:
        return 0
    low, high = found.made[node]
    keys = tiling.facts[tiling.sources[node]["key"]].shape[-2]
    return keys * ((high - low) * (1 + tiling.facts[node].item_bytes) + 8)


def staying_bytes(kept: set[Node], views: Mapping[Node, Buffer | None], made: Set[Node], facts: Facts) -> int:
    """The bytes that stay of operators which ran, of whose results some are needed afterwards.

    Args:
        kept: those whose results are needed afterwards.
        made: all that ran.
    """
    return sum(map(facts.counted, {_owner(node, views, made) for node in kept}))


def run_peak(
    nodes: Sequence[Node], kept: set[Node], views: Mapping[Node, Buffer | None], attention: Attention, facts: Facts
) -> int:
    """The most bytes that running some operators needs beside what was there.

    Args:
        kept: those whose results are needed afterwards.
    """
    made = set(nodes)
    last: dict[Node, int] = {}
    for index, node in enumerate(nodes):
        for used in (node, *node.all_input_nodes):
            owner = _owner(used, views, made)
            if owner in made:
                last[owner] = len(nodes) if used in kept else max(index, last.get(owner, index))
    live = most = 0
    ending: dict[int, int] = {}
    for index, node in enumerate(nodes):
        taken = 0
        if node in last:
            size = facts.counted(node)
            live += size
            ending[last[node]] = ending.get(last[node], 0) + size
            for operand in facts[node].overwritable:
                buffer = views.get(operand)
                if buffer is not None and last.get(buffer.node, -1) == index:
                    taken = size
                    break
        most = max(most, live - taken + (score_bytes(node) if attention == "materialized" else 0))
        live -= ending.get(index, 0)
    return most


def _owner(node: Node, views: Mapping[Node, Buffer | None], made: Set[Node]) -> Node:
    """The node whose memory a value lies in, if that is among those made."""
    buffer = views.get(node)
    return buffer.node if buffer is not None and buffer.node in made else node

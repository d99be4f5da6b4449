"""The graph of one part of a tiling: the run's operators at the part's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from penstock.passes.analysis.axes import Axis
from penstock.passes.analysis.axes.reductions import MERGES
from penstock.passes.analysis.axes.rules import Part, crop, make_part
from penstock.passes.core.graphs import eliminate_dead_nodes, make_module
from penstock.passes.core.program import attribute
from penstock.passes.core.shapes import fake_like, infer, shape_of
from penstock.passes.core.source import inherit
from penstock.passes.slicing.forms import restored
from penstock.passes.slicing.parts import Range
from penstock.passes.slicing.rows import Rows
from penstock.passes.slicing.spans import Spans, Window, clipped
from penstock.passes.slicing.tiling import PART_OF, Tiling, looked_at

aten = torch.ops.aten


@dataclass(frozen=True)
class Body:
    """The graph of one part.

    Attributes:
        module: takes `whole`, then `windows`, then `taken`; returns the tiles of the spans, then `kept`.
        whole: the values that it takes as they are.
        windows: the values that it takes in parts.
        taken: those of which it takes what the part before it kept.
        kept: those of which it keeps something for the next part.
    """

    module: GraphModule
    whole: tuple[Node, ...]
    windows: tuple[Window, ...]
    taken: tuple[Node, ...]
    kept: tuple[Node, ...]


def outline(
    module: GraphModule, nodes: Sequence[Node], results: Sequence[Node], name: str
) -> tuple[GraphModule, tuple[Node, ...]]:
    """Some operators of a graph as a graph of its own, and the values that it takes."""
    needed = set(results)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node in needed:
            kept.append(node)
            needed.update(node.all_input_nodes)
    inside = set(kept)
    builder = _Builder(module)
    taken = [node for node in module.graph.nodes if node in needed and node not in inside and node.op != "get_attr"]
    env = {source: builder.placeholder(source, source.meta["val"]) for source in taken}
    for node in reversed(kept):
        env[node] = builder.copy(node, env)
    made = [builder.weight(node) if node.op == "get_attr" else env[node] for node in results]
    return builder.finish(made, name), tuple(taken)


def part_of(module: GraphModule, tiling: Tiling, found: Spans, name: str, reduction: Node | None = None) -> Body:
    """The graph of the part that `spans` describes. Parts with the same extents and borders have equal graphs.

    Args:
        reduction: what each part makes of the only output, with a first dimension of 1; None for the tiles themselves.
    """
    builder = _Builder(module)
    sliced = set(tiling.sliced)
    whole: dict[Node, Node] = {}
    windows = tuple(found.windows)
    running = [node for node in tiling.sliced if node in found.made]
    for node in running:
        for key, source in tiling.sources[node].items():
            if tiling.needs[node][key] is None and source.op != "get_attr":
                source = looked_at(node, source)
                if source.op != "get_attr":
                    whole.setdefault(source, source)
    whole = {source: builder.placeholder(source, source.meta["val"]) for source in whole}
    seen: dict[Window, Any] = {}
    for source, axis in windows:
        seen[source, axis] = builder.part(source, axis, found.windows[source, axis])
    taken = {node: builder.part(node, tiling.axes[node], each) for node, each in found.taken.items()}
    rows = Rows(tiling, found, taken)
    for node in running:
        emit = builder.at(node)
        tensors: dict[str, Any] = {}
        for key, source in tiling.sources[node].items():
            need = tiling.needs[node][key]
            if need is None:
                tensors[key] = builder.view(source, whole)
                continue
            (low, high), _ = clipped(need, found.made[node])
            if low >= high:
                tensors[key] = None
            elif source in sliced:
                tensors[key] = rows.read(emit, node, key, low, high)
            else:
                base = found.windows[source, need.axis]
                held = seen[source, need.axis]
                tensors[key] = crop(emit, held, need.axis, base[1] - base[0], low - base[0], high - base[0])
        made = found.made[node]
        part = Part(node, tiling.axes[node], made[0], made[1], found.padding[node])
        rows.add(emit, node, make_part(part, emit, tensors))
    results = [rows.tile(builder.at(output), output) for output in found.tiles]
    if reduction is not None and results:
        emit = builder.at(reduction)
        part = emit(reduction.target, *map_arg(reduction.args, lambda _: results[0]), **reduction.kwargs)
        results = [emit(aten.reshape.default, part, [1, *shape_of(part)])]
    kept = rows.kept(builder.at(running[-1]))
    return Body(builder.finish([*results, *kept], name), tuple(whole), windows, tuple(taken), tuple(found.kept))


def merge_of(module: GraphModule, reduction: Node, sizes: Sequence[int], name: str) -> GraphModule:
    """The graph that makes a reduction from the stacked reductions of parts, which have so many positions."""
    builder = _Builder(module)
    value = reduction.meta["val"]
    stacked = builder.placeholder(reduction, torch.empty((len(sizes), *value.shape), dtype=value.dtype, device="meta"))
    merge = MERGES[reduction.target]
    return builder.finish([merge(builder.at(reduction), stacked, sizes)], name)


_VIEWS = (aten.view.default, aten._unsafe_view.default)


class _Builder:
    """A new graph that is filled with operators of another one."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._graph = Graph()
        self._weights: dict[str, torch.Tensor] = {}
        self._read: dict[str, Node] = {}
        self._taken: dict[str, int] = {}

    def placeholder(self, source: Node, value: Any) -> Node:
        count = self._taken[source.name] = self._taken.get(source.name, 0) + 1
        node = self._graph.placeholder(source.name if count == 1 else f"{source.name}_{count}")
        node.meta["val"] = fake_like(value)
        return node

    def part(self, source: Node, axis: Axis, positions: Range) -> Node:
        """A placeholder for some positions of a value."""
        shape = axis.resized(shape_of(source), positions[1] - positions[0])
        return self.placeholder(source, torch.empty(shape, dtype=source.meta["val"].dtype, device="meta"))

    def weight(self, source: Node) -> Node:
        name = str(source.target)
        if name not in self._read:
            self._weights[name] = attribute(self._module, name)
            node = self._graph.create_node("get_attr", name)
            node.meta = dict(source.meta)
            self._read[name] = node
        return self._read[name]

    def at(self, origin: Node) -> Any:
        """An emitter whose nodes come from an operator of the old graph."""

        def emit(target: Any, *args: Any, **kwargs: Any) -> Node:
            value = infer(target, args, kwargs)
            node = self._graph.call_function(target, args, kwargs)
            node.meta["val"] = value
            inherit(node, origin, "slice")
            node.meta[PART_OF] = origin.name
            return node

        return emit

    def copy(self, node: Node, env: Mapping[Node, Node]) -> Node:
        def held(source: Node) -> Node:
            return self.weight(source) if source.op == "get_attr" else env[source]

        made = self._graph.node_copy(node, held)
        made.meta = dict(node.meta)
        if made.target in _VIEWS:  # what a loop made has other strides than the value it stands for
            made.target = aten.reshape.default
        return made

    def view(self, source: Node, known: Mapping[Node, Node]) -> Node:
        """A value that is known, a weight, or a view of one of these."""
        if source.op == "get_attr":
            return self.weight(source)
        if source in known:
            return known[source]
        return self.copy(source, {base: self.view(base, known) for base in source.all_input_nodes})

    def finish(self, results: Sequence[Node], name: str) -> GraphModule:
        self._graph.output(tuple(results))
        eliminate_dead_nodes(self._graph)
        used = {str(node.target) for node in self._graph.find_nodes(op="get_attr")}
        weights = {key: tensor for key, tensor in self._weights.items() if key in used}
        return restored(make_module(weights, self._graph, name))

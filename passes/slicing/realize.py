"""From a schedule to a plan: graphs for what runs as it is and for each kind of part, and the ops that run them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch.fx import GraphModule, Node

from penstock.passes.analysis.axes import Axis
from penstock.passes.core.program import (
    Call,
    Kept,
    KeptMemory,
    Op,
    Piece,
    SliceLoop,
    Window,
    placeholders,
    result_nodes,
)
from penstock.passes.core.shapes import dtype_name, dtype_of, shape_of
from penstock.passes.slicing.bodies import merge_of, outline, part_of
from penstock.passes.slicing.cuts import Cut
from penstock.passes.slicing.groups import Group
from penstock.passes.slicing.parts import Range
from penstock.passes.slicing.planner import Planner, Schedule
from penstock.passes.slicing.spans import Spans, clipped, kept_extents, spans_of
from penstock.passes.slicing.tiling import Sweep, Tiling
from penstock.passes.slicing.timeline import gathered_bytes


@dataclass
class Realizer:
    """Collects the graphs that realising schedules makes.

    Attributes:
        graphs: by name.
    """

    graphs: dict[str, GraphModule] = field(default_factory=dict)

    def ops(
        self, planner: Planner, schedule: Schedule, args: Sequence[str], results: Sequence[str], name: str
    ) -> tuple[Op, ...]:
        """The ops that run a graph by a schedule.

        Args:
            args: what its arguments are called where the ops stand.
            results: what its results are to be called there.
            name: the beginning of the names of all graphs and values made.
        """
        return tuple(_Scope(self, planner, schedule, args, results, name).ops())

    def add(self, name: str, module: GraphModule) -> str:
        """Keep a graph; returns its name."""
        self.graphs[name] = module
        return name


class _Scope:
    """One graph being realised: its values by name."""

    def __init__(
        self,
        made: Realizer,
        planner: Planner,
        schedule: Schedule,
        args: Sequence[str],
        results: Sequence[str],
        name: str,
    ) -> None:
        self._made = made
        self._planner = planner
        self._module = planner.module
        self._groups = schedule.groups
        self._name = name
        self._names: dict[Node, str] = dict(zip(placeholders(self._module), args, strict=True))
        self._results = list(zip(result_nodes(self._module), results, strict=True))
        for node, result in self._results:
            if node.op == "call_function" and planner.line.base[node] is node:
                self._names.setdefault(node, result)

    def ops(self) -> Iterator[Op]:
        """In the order in which they run."""
        at = 0
        for group in self._groups:
            yield from self._plain(at, group.start)
            yield from self._sliced(group)
            at = group.stop
        yield from self._plain(at, len(self._planner.line.nodes))
        left = [(node, result) for node, result in self._results if self._names.get(node) != result]
        if left:  # an argument, a weight or a view that is a result, or a value that is two
            nodes = [node for node, _ in left]
            made = [node for node in nodes if self._planner.line.base[node] is not node]
            run = [node for node in self._planner.line.with_views(made) if node not in self._names]
            graph, taken = outline(self._module, list(dict.fromkeys(run)), nodes, f"{self._name}_results")
            yield self._call(graph, taken, [result for _, result in left], f"{self._name}_results")

    def _plain(self, start: int, stop: int) -> Iterator[Op]:
        nodes = self._planner.line.nodes[start:stop]
        used = self._planner.groups.made(start, stop)
        if used:
            yield self._outlined(nodes, used, f"{self._name}_{start}")

    def _outlined(self, nodes: Sequence[Node], used: Sequence[Node], name: str) -> Call:
        nodes = self._planner.line.with_views(nodes)
        graph, taken = outline(self._module, nodes, used, name)
        return self._call(graph, taken, [self._value(node) for node in used], name)

    def _call(self, graph: GraphModule, taken: Sequence[Node], results: Sequence[str], name: str) -> Call:
        return Call(self._made.add(name, graph), tuple(self._names[node] for node in taken), tuple(results))

    def _value(self, node: Node) -> str:
        return self._names.setdefault(node, f"{self._name}.{node.name}")

    def _sliced(self, group: Group) -> Iterator[Op]:
        kept = self._planner.groups.kept(group.tiling, group.stop)
        name = f"{self._name}_{group.start}"
        yield from self._tables(group.tiling, f"{name}_tables")
        if kept and group.hoist is None:
            yield self._outlined(group.tiling.hoisted, kept, f"{name}_whole")
        elif kept and group.hoist is not None:
            yield from self._hoisted(group, group.hoist, f"{name}_whole")
        for sweep, cut in zip(group.tiling.sweeps, group.sweeps, strict=True):
            yield from self._swept(sweep, cut, f"{name}_{sweep.node.name}")
        outputs = group.tiling.outputs
        pieces, memory = self._pieces(group.tiling, group.cut, name)
        yield SliceLoop(
            results=tuple(self._value(node) for node in outputs),
            shapes=tuple(shape_of(node) for node in outputs),
            dtypes=tuple(dtype_name(dtype_of(node)) for node in outputs),
            pieces=pieces,
            reuses=tuple(self._names[group.reuses[node]] if node in group.reuses else None for node in outputs),
            kept=memory,
        )

    def _hoisted(self, group: Group, schedule: Schedule, name: str) -> Iterator[Op]:
        graph, taken, kept = self._planner.groups.hoisted(group.tiling, group.stop, name)
        planner = self._planner.inner(graph)
        args = [self._names[node] for node in taken]
        results = [self._value(node) for node in kept]
        again = planner.plan(schedule.bytes, schedule.depth) or planner.least(depth=schedule.depth)
        yield from self._made.ops(planner, again, args, results, name)

    def _tables(self, tiling: Tiling, name: str) -> Iterator[Op]:
        """The weights that the parts take in parts, as values."""
        taken = {
            source: None
            for node in tiling.sliced
            for _, source, _ in tiling.reads[node]
            if source.op == "get_attr" and source not in self._names
        }
        if taken:
            graph, _ = outline(self._module, [], list(taken), name)
            yield self._call(graph, (), [self._value(source) for source in taken], name)

    def _swept(self, sweep: Sweep, cut: Cut, name: str) -> Iterator[Op]:
        node = sweep.node
        stacked = f"{name}.parts"
        pieces, memory = self._pieces(sweep.tiling, cut, name, node)
        yield SliceLoop(
            results=(stacked,),
            shapes=((cut.parts.filled, *shape_of(node)),),
            dtypes=(dtype_name(dtype_of(node)),),
            pieces=pieces,
            reuses=(None,),
            kept=memory,
        )
        merge = self._made.add(f"{name}_merge", merge_of(self._module, node, cut.parts.sizes, f"{name}_merge"))
        yield Call(merge, (stacked,), (self._value(node),))

    def _pieces(
        self, tiling: Tiling, cut: Cut, name: str, reduction: Node | None = None
    ) -> tuple[tuple[Piece, ...], tuple[KeptMemory, ...]]:
        """The pieces of a loop, and memory for what its parts keep."""
        runs = list(_runs(tiling, cut))
        pieces: list[Piece] = []
        known: dict[Any, Piece] = {}  # by what their graphs depend on
        for key, first, step, count in runs:
            done = sum(piece.count for piece in pieces if piece.tiles[0] is not None)
            tiles = [
                _window(tiling.axes[node], first.tiles[node], step.tiles[node], count) if node in first.tiles else None
                for node in tiling.outputs
            ]
            if reduction is not None and first.tiles:
                tiles = [Window(0, 1, cut.parts.filled, 1, done, 1, 1)]
            if key not in known:
                part = f"{name}_part" + (f"_{len(known)}" if len(runs) > 1 else "")
                known[key] = self._piece(tiling, cut, first, name, part, reduction)
            windows = (_window(at[1], first.windows[at], step.windows[at], count) for at in first.windows)
            args = [(value, window and next(windows)) for value, window in known[key].args]
            pieces.append(replace(known[key], count=count, args=tuple(args), tiles=tuple(tiles)))
        kept = kept_extents(first for _, first, _, _ in runs)
        shapes = {node: tiling.axes[node].resized(shape_of(node), extent) for node, extent in kept.items()}
        memory = (KeptMemory(_memory(name, node), dtype_name(dtype_of(node)), shape) for node, shape in shapes.items())
        return tuple(pieces), tuple(memory)

    def _piece(self, tiling: Tiling, cut: Cut, first: Spans, loop: str, name: str, reduction: Node | None) -> Piece:
        """One iteration, whose results go nowhere yet."""
        body = part_of(self._module, tiling, first, name, reduction)
        args: list[tuple[str, Window | None]] = [(self._names[node], None) for node in body.whole]
        for at in body.windows:
            args.append((self._names[at[0]], _window(at[1], first.windows[at], first.windows[at], 1)))
        params = tuple(f"{name}.arg{index}" for index, _ in enumerate(args))
        returns = tuple(
            f"{name}.result{index}" if node in first.tiles else None for index, node in enumerate(tiling.outputs)
        )

        def kept(rows: Mapping[Node, Range], word: str) -> tuple[Kept, ...]:
            shapes = [tiling.axes[node].resized(shape_of(node), high - low) for node, (low, high) in rows.items()]
            each = enumerate(zip(rows, shapes, strict=True))
            both = first.kept_of_both if rows is first.kept else {}
            return tuple(Kept(_memory(loop, at), f"{name}.{word}{i}", shape, at in both) for i, (at, shape) in each)

        takes, keeps = kept(first.taken, "taken"), kept(first.kept, "kept")
        given = (*params, *(each.value for each in takes))
        made = (*filter(None, returns), *(each.value for each in keeps))
        ops: tuple[Op, ...]
        if cut.inner is None:
            ops = (Call(self._made.add(name, body.module), given, made),)
        else:
            planner = self._planner.inner(body.module)
            room = cut.bytes - sum(gathered_bytes(tiling, first, window) for window in first.windows)
            room -= cut.kept_bytes
            depth = cut.inner.depth
            schedule = planner.adopted(cut.inner, room) or planner.plan(room, depth) or planner.least(depth=depth)
            ops = self._made.ops(planner, schedule, given, made, name)
        return Piece(1, tuple(args), params, ops, returns, (), takes, keeps)


def _memory(loop: str, node: Node) -> str:
    return f"{loop}.kept.{node.name}"


def _window(axis: Axis, first: Range, second: Range, count: int) -> Window:
    """The window that moves from the range of one part to that of the next."""
    start, extent = first[0], first[1] - first[0]
    step = second[0] - start if count > 1 else extent
    return Window(axis.dim, axis.outer, axis.size, axis.inner, start, step, extent)


def _runs(tiling: Tiling, cut: Cut) -> Iterator[tuple[Any, Spans, Spans, int]]:
    """Parts that run the same graph on windows that move evenly: its key, the first part, the second, and how many."""
    parts = cut.parts
    every = (spans_of(tiling, parts, index, cut.keeps_halos) for index in range(parts.count))
    found = [part for part in every if part.made]
    keys = [_key(tiling, each) for each in found]
    at = 0
    while at < len(found):
        stop = at + 1
        while (
            stop < len(found)
            and keys[stop] == keys[at]
            and _moved(found[stop - 1], found[stop]) == _moved(found[at], found[at + 1])
        ):
            stop += 1
        yield keys[at], found[at], found[min(at + 1, stop - 1)], stop - at
        at = stop


def _key(tiling: Tiling, part: Spans) -> tuple[Any, ...]:
    """What the graph of a part depends on."""
    rows: list[Any] = [(window, high - low) for window, (low, high) in part.windows.items()]
    for node, (low, high) in part.made.items():
        rows += [node, high - low, tuple(part.padding.get(node, {}).values())]
        for key, source, need in tiling.reads[node]:
            (first, last), _ = clipped(need, (low, high))
            if first < last:
                start = part.start(source, need.axis)
                rows.append((key, first - start, last - first, low * need.num % need.den))
    rows += [(low - part.made[node][0], high - low) for node, (low, high) in part.tiles.items()]
    for node, (low, high) in (*part.taken.items(), *part.kept.items()):
        rows += [node, low - part.start(node, tiling.axes[node]), high - low]
    return tuple(rows)


def _moved(part: Spans, following: Spans) -> tuple[Any, ...]:
    """How far every window and tile moves from one part to the next."""
    windows = tuple(following.windows[key][0] - low for key, (low, _) in part.windows.items())
    return windows, tuple(following.tiles[key][0] - low for key, (low, _) in part.tiles.items())

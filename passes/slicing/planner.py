"""Choosing what to slice: a cheap way through a graph whose memory stays under a budget.

A graph is a path over the borders between its operators. A step goes over one operator, which runs as it is, or over a
run of operators, which runs in parts; each step has an extra time and a highest number of bytes, and a step above the
budget is no step. One sweep builds the path: a border that an operator leads to as it is needs no other way, and of the
runs that end at any other border, the one with the cheapest way is taken. Where no path exists, the parts themselves
are cut again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from penstock.passes.analysis.aliases import Buffer, buffers_of
from penstock.passes.analysis.axes import Axis, Reach, WholeError, inputs_of
from penstock.passes.analysis.cost import node_flops, node_moved_bytes
from penstock.passes.analysis.memory import Attention
from penstock.passes.core.program import placeholders
from penstock.passes.core.shapes import nbytes, value_of
from penstock.passes.slicing.bodies import part_of
from penstock.passes.slicing.tiling import Spans, Tiling, Window, spans, tile
from penstock.passes.slicing.timeline import Timeline, part_bytes, run_peak, timeline

_STARTS = 28  # borders looked back from the end of a run
_INNER = 60  # graphs of parts that are planned in their turn, at most
_LAUNCH = 4e-6  # seconds to start an operator
_BYTES_PER_SECOND = 20e9
_FLOPS_PER_SECOND = 500e9


@dataclass(frozen=True)
class Group:
    """A run of operators that is made in parts.

    Attributes:
        start, stop: the run: operators start … stop-1 of the graph.
        axis: along which its main result is cut.
        parts: how many, of the same size.
        bytes: the most alive at once while it runs, with all that waits for later.
        part_bytes: the share of that which belongs to one part.
        seconds: the time that making it in parts adds, as estimated.
        reuses: for outputs that take over the memory of a value that dies here, that value.
        inner: how each part is cut again; None where it runs as it is.
    """

    start: int
    stop: int
    seed: Node
    axis: Axis
    tiling: Tiling
    parts: int
    bytes: int
    part_bytes: int
    seconds: float
    reuses: Mapping[Node, Node]
    inner: Schedule | None = None


@dataclass(frozen=True)
class Schedule:
    """How a graph runs.

    Attributes:
        groups: in order; everything between them runs as it is.
        bytes: the most alive at once.
        seconds: the time that the groups add, as estimated.
    """

    groups: tuple[Group, ...]
    bytes: int
    seconds: float


class Planner:
    """Plans for one graph under several budgets; what does not depend on the budget is found once.

    Args:
        attention: whether kernels of attention store their scores.
        free: arguments that lie in memory of the caller and do not count.
        depth: how often parts may be cut again.
    """

    def __init__(
        self, module: GraphModule, attention: Attention = "fused", free: frozenset[Node] = frozenset(), depth: int = 1
    ) -> None:
        self.module = module
        self.attention = attention
        self.line: Timeline = timeline(module, attention, free)
        self._depth = depth
        self._index = {node: index for index, node in enumerate(self.line.nodes)}
        held = buffers_of(module.graph)
        self._views: dict[Node, Buffer | None] = {node: (found[0] if found else None) for node, found in held.items()}
        self._tilings: dict[tuple[int, int, Node, Axis], Tiling | None] = {}
        self._parts: dict[tuple[int, int, Axis, int], tuple[int, float]] = {}
        self._inner: dict[tuple[int, int, Axis, int], Planner] = {}
        self._looking: dict[Node, list[Node]] = {}  # into the buffer of each node
        for node, buffer in self._views.items():
            if buffer is not None:
                self._looking.setdefault(buffer.node, []).append(node)
        self._seconds = {node: _seconds(node) for node in self.line.nodes}

    def inner(self, body: GraphModule) -> Planner:
        """A planner for the graph of a part, whose arguments lie in memory that is counted outside."""
        return Planner(body, self.attention, frozenset(placeholders(body)), self._depth - 1)

    @property
    def unsliced_bytes(self) -> int:
        """The most alive at once without any group."""
        return max(self.line.during, default=0)

    def plan(self, budget: int) -> Schedule | None:
        """A cheap schedule under a budget in bytes; None where none is found."""
        if self.unsliced_bytes <= budget:
            return Schedule((), self.unsliced_bytes, 0.0)
        return self._path(budget, nested=False) or (self._path(budget, nested=True) if self._depth else None)

    def least(self, tolerance: float = 0.03) -> Schedule:
        """The schedule with the fewest bytes that the planner finds."""
        best = Schedule((), self.unsliced_bytes, 0.0)
        for nested in (False, True) if self._depth else (False,):
            low = max(self.line.live[0], self.line.live[-1], 1)
            while best.bytes > low * (1 + tolerance):
                middle = (low + best.bytes) // 2
                found = self._path(middle, nested)
                if found is None:
                    low = middle + 1
                else:
                    best = found
        return best

    def _path(self, budget: int, nested: bool) -> Schedule | None:
        count = len(self.line.nodes)
        over = [index for index in range(count) if self.line.during[index] > budget]
        cost: dict[int, tuple[float, int, int, Group | None]] = {0: (0.0, 0, -1, None)}
        borders = self._borders(budget)
        for border in range(1, count + 1):
            before = cost.get(border - 1)
            if before is not None and self.line.during[border - 1] <= budget:
                cost[border] = (before[0], max(before[1], self.line.during[border - 1]), border - 1, None)
            if border not in borders or border in cost or not over:
                continue
            found = list(self._groups(border, borders[border], budget, cost, nested=False))
            if nested and not found:
                found = list(self._groups(border, borders[border], budget, cost, nested=True))
            for each in found:
                known = cost.get(border)
                total = cost[each.start][0] + each.seconds
                if known is None or total < known[0]:
                    cost[border] = (total, max(cost[each.start][1], each.bytes), each.start, each)
        if count not in cost:
            return None
        groups = []
        at = count
        while at > 0:
            _, _, previous, group = cost[at]
            if group is not None:
                groups.append(group)
            at = previous
        return Schedule(tuple(reversed(groups)), cost[count][1], cost[count][0])

    def _borders(self, budget: int) -> dict[int, list[int]]:
        """The borders at which a run may end, each with those at which it may begin, the nearest first."""
        live = self.line.live
        good = [
            border
            for border in range(len(live))
            if live[border] <= budget
            and (border == 0 or live[border] <= live[border - 1])
            and (border == len(live) - 1 or live[border] <= live[border + 1])
        ]
        kept = [
            border
            for position, border in enumerate(good)
            if not (
                0 < position < len(good) - 1
                and good[position - 1] == border - 1
                and good[position + 1] == border + 1
                and live[border - 1] == live[border] == live[border + 1]
            )
        ]
        return {border: kept[max(0, place - _STARTS) : place][::-1] for place, border in enumerate(kept)}

    def _groups(
        self, stop: int, starts: list[int], budget: int, cost: Mapping[int, object], nested: bool
    ) -> Iterator[Group]:
        for start in starts:
            if start not in cost or max(self.line.during[start:stop]) <= budget:
                continue
            made = self.made(start, stop)
            if not made or self.line.live[start] > budget:
                continue
            seed = max(made, key=lambda node: (nbytes(value_of(node)), self._index[node]))
            shape = tuple(value_of(seed).shape)
            for dim, extent in enumerate(shape):
                if extent > 1:
                    group = self._group(start, stop, seed, Axis.of(shape, dim), budget, nested)
                    if group is not None:
                        yield group

    def _group(self, start: int, stop: int, seed: Node, axis: Axis, budget: int, nested: bool) -> Group | None:
        tiling = self._tiling(start, stop, seed, axis)
        if tiling is None:
            return None
        base, hoist, reuses = self._base(start, stop, tiling)
        if max(base, hoist) > budget:
            return None
        counts = [count for count in range(2, tiling.size + 1) if tiling.size % count == 0]
        try:
            least = self._part(start, stop, tiling, axis, counts[-1])[0]
            if base + least > budget:
                whole = (tiling, base, hoist, reuses)
                return self._nested(start, stop, seed, axis, whole, budget, counts) if nested else None
            low, high = 0, len(counts) - 1
            while low < high:
                middle = (low + high) // 2
                if base + self._part(start, stop, tiling, axis, counts[middle])[0] <= budget:
                    high = middle
                else:
                    low = middle + 1
            held, seconds = self._part(start, stop, tiling, axis, counts[low])
            step = tiling.size // counts[low]
            for first in (0, tiling.size - step):  # at the borders a part may be nothing but padding
                spans(tiling, first, first + step)
        except WholeError:
            return None
        return Group(start, stop, seed, axis, tiling, counts[low], max(base + held, hoist), held, seconds, reuses)

    def _nested(
        self,
        start: int,
        stop: int,
        seed: Node,
        axis: Axis,
        whole: tuple[Tiling, int, int, Mapping[Node, Node]],
        budget: int,
        counts: list[int],
    ) -> Group | None:
        """Parts that are cut again: few large ones or many small ones, whichever adds less time."""
        tiling, base, hoist, reuses = whole
        best: Group | None = None
        for parts in dict.fromkeys((counts[-1], counts[len(counts) // 2], counts[0])):
            key = (start, stop, axis, parts)
            if key not in self._inner:
                if len(self._inner) >= _INNER:
                    continue
                found = self._middle(tiling, parts)
                self._inner[key] = self.inner(part_of(self.module, tiling, found, "part").module)
            inner = self._inner[key].plan(budget - base)
            if inner is None:
                continue
            seconds = self._part(start, stop, tiling, axis, parts)[1] + parts * inner.seconds
            if best is None or seconds < best.seconds:
                most = max(base + inner.bytes, hoist)
                best = Group(start, stop, seed, axis, tiling, parts, most, inner.bytes, seconds, reuses, inner)
        return best

    def made(self, start: int, stop: int) -> list[Node]:
        """The values that a run makes for later."""
        return [node for node in self.line.nodes[start:stop] if self.line.last_use.get(node, -1) >= stop]

    def _tiling(self, start: int, stop: int, seed: Node, axis: Axis) -> Tiling | None:
        key = (start, stop, seed, axis)
        if key not in self._tilings:
            try:
                run = self.line.with_views(self.line.nodes[start:stop])
                self._tilings[key] = tile(run, set(self.made(start, stop)), seed, axis)
            except WholeError:
                self._tilings[key] = None
        return self._tilings[key]

    def _base(self, start: int, stop: int, tiling: Tiling) -> tuple[int, int, Mapping[Node, Node]]:
        """Bytes that are alive all through the loop, the most while what is hoisted runs, and what is written over."""
        kept = set(self.kept(tiling, stop))
        most, stays = run_peak(tiling.hoisted, kept, self._views, self.attention)
        reuses = self._reuses(start, stop, tiling)
        made = sum(nbytes(value_of(node)) for node in tiling.outputs if node not in reuses)
        live = self.line.live[start]
        return live + stays + made, live + most, reuses

    def kept(self, tiling: Tiling, stop: int) -> list[Node]:
        """What is made before the loop and needed in it or after it."""
        inside = set(tiling.sliced)
        return [
            node
            for node in tiling.hoisted
            if self.line.last_use.get(node, -1) >= stop or any(user in inside for user in node.users)
        ]

    def _reuses(self, start: int, stop: int, tiling: Tiling) -> Mapping[Node, Node]:
        """Outputs that can be written where a value lies that dies in this run.

        Each part reads of that value just the bytes that it writes, and nothing else looks into its memory.
        """
        taken: dict[Window, Reach] = {}
        spoiled: set[Node] = set()
        inside = set(tiling.sliced)
        for node in tiling.sliced:
            for key, source in inputs_of(node).items():
                need = tiling.needs[node][key]
                if source in inside or source.op == "get_attr":
                    continue
                if (
                    need is None
                    or not need.is_parallel
                    or (taken and any(s is source and a != need.axis for s, a in taken))
                ):
                    spoiled.add(source)
                else:
                    taken[source, need.axis] = need
        found: dict[Node, Node] = {}
        try:
            lows = sorted({0, tiling.size // 2, tiling.size - 1})
            parts = [spans(tiling, low, low + 1) for low in lows] if taken else []
        except WholeError:
            return {}
        for output in tiling.outputs:
            mine = tiling.axes[output]
            for source, axis in taken:
                if source in spoiled or source in found.values() or not self._dies(source, start, stop):
                    continue
                in_step = all(part.windows.get((source, axis)) == part.tiles[output] for part in parts)
                if in_step and _same_bytes(source, axis, output, mine):
                    found[output] = source
                    break
        return found

    def _dies(self, value: Node, start: int, stop: int) -> bool:
        """Whether a run is the last to need the memory of a value from before it."""
        buffer = self._views[value]
        if (
            buffer is None
            or buffer.node.op != "call_function"
            or nbytes(value_of(value)) != nbytes(value_of(buffer.node))
        ):
            return False
        return self._index[value] < start and all(
            self.line.last_use[node] < stop for node in self._looking[buffer.node] if node in self.line.last_use
        )

    def _middle(self, tiling: Tiling, parts: int) -> Spans:
        step = tiling.size // parts
        low = parts // 2 * step
        return spans(tiling, low, low + step)

    def _part(self, start: int, stop: int, tiling: Tiling, axis: Axis, parts: int) -> tuple[int, float]:
        """Bytes of one part, and the seconds that all parts add."""
        key = (start, stop, axis, parts)
        if key not in self._parts:
            found = self._middle(tiling, parts)
            seconds = 0.0
            for node, (low, high) in found.made.items():
                ratio = parts * (high - low) / tiling.axes[node].size
                seconds += max(0.0, ratio - 1) * self._seconds[node] + (parts - 1) * _LAUNCH * (self._seconds[node] > 0)
            for source, axis_ in found.windows:
                if not axis_.is_contiguous(tuple(value_of(source).shape)):
                    seconds += 2 * nbytes(value_of(source)) / _BYTES_PER_SECOND
            for output in tiling.outputs:
                if not tiling.axes[output].is_contiguous(tuple(value_of(output).shape)):
                    seconds += 2 * nbytes(value_of(output)) / _BYTES_PER_SECOND
            self._parts[key] = part_bytes(tiling, found, self.attention, self._views), seconds
        return self._parts[key]


def _same_bytes(one: Node, along: Axis, other: Node, across: Axis) -> bool:
    """Whether equal positions of two values are the same bytes of equally large memory."""
    a, b = value_of(one), value_of(other)
    if nbytes(a) != nbytes(b) or a.element_size() != b.element_size() or along.size != across.size:
        return False
    if along.is_contiguous(tuple(a.shape)) and across.is_contiguous(tuple(b.shape)):
        return True
    return tuple(a.shape) == tuple(b.shape) and along == across


def _seconds(node: Node) -> float:
    return max(node_flops(node) / _FLOPS_PER_SECOND, node_moved_bytes(node) / _BYTES_PER_SECOND)

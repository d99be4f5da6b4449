"""Choosing what to slice: a cheap way through a graph whose memory stays under a budget.

A graph is a path over the borders between its operators. A step goes over one operator, which runs as it is, or over a
run of operators, which runs in parts; each step has an extra time and a highest number of bytes, and a step above the
budget is no step. One sweep builds the path: a border that an operator leads to as it is needs no other way, and of the
runs that end at any other border, the one with the cheapest way is taken. Where no path exists, the parts themselves
are cut again.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch.fx import GraphModule, Node

from penstock.passes.analysis.axes import WholeError
from penstock.passes.analysis.memory import Attention
from penstock.passes.core.program import placeholders
from penstock.passes.core.skeleton import skeleton_of
from penstock.passes.slicing.agreement import agreeing
from penstock.passes.slicing.estimates import seconds_of
from penstock.passes.slicing.facts import FORBIDDEN, Fact
from penstock.passes.slicing.forms import prepared
from penstock.passes.slicing.groups import Group, Groups
from penstock.passes.slicing.kernels import Kernels, cost, of_nodes
from penstock.passes.slicing.timeline import Timeline, timeline
from penstock.passes.slicing.twins import Twins

_NEAR = 28  # borders looked back from the end of a run
SLOW = 0.1  # time that a plan adds, as a share of the unsliced time, from which parts that are cut again are tried
_FLOOR = 0.01  # share of the fewest bytes that they are found out to
SPARE = 0.05  # share of them that a cheaper schedule may need more
_NESTED = 12  # borders looked back likewise for runs whose parts are cut again


class _Search(NamedTuple):
    """Where runs may begin and end.

    Attributes:
        far: borders looked back from the end of a run. Those that are not near count where less is alive than between.
        level: whether a run may end at an operator that needs too much where as much is alive before it as behind it.
    """

    far: int = _NEAR
    level: bool = False


_SEARCHES = (_Search(), _Search(4 * _NEAR), _Search(4 * _NEAR, level=True))
"""Each for where the one before it finds nothing: more borders take longer, and a path over them may end nowhere."""


@dataclass(frozen=True)
class Schedule:
    """How a graph runs.

    Attributes:
        groups: in order; everything between them runs as it is.
        bytes: the most alive at once.
        seconds: the time that the groups add, as estimated.
        kernels: of the whole graph.
    """

    groups: tuple[Group, ...]
    bytes: int
    seconds: float
    kernels: Kernels

    @property
    def cost(self) -> float:
        """What plans are compared by."""
        return cost(self.seconds, self.kernels)

    @property
    def depth(self) -> int:
        """How often parts are cut again."""
        return max((group.depth for group in self.groups), default=0)

    @property
    def flops(self) -> float:
        """The arithmetic that the groups do again."""
        return sum(group.flops for group in self.groups)


@dataclass(frozen=True)
class _Way:
    """A way to a border: what it costs, the kernels that it needs, and the group that it ends with, if with any."""

    seconds: float
    kernels: Kernels
    group: Group | None = None
    before: _Way | None = None

    @property
    def cost(self) -> float:
        return cost(self.seconds, self.kernels)

    def over(self, fact: Fact) -> _Way:
        """The way on over an operator that runs as it is."""
        if fact.is_view or fact.kernel in self.kernels:
            return self
        return _Way(self.seconds, self.kernels | {fact.kernel}, None, self)

    def through(self, group: Group) -> _Way:
        """The way on through a group."""
        return _Way(self.seconds + group.seconds, self.kernels | group.kernels, group, self)

    def groups(self) -> list[Group]:
        """Those on the way, in order."""
        found: list[Group] = []
        way: _Way | None = self
        while way is not None:
            found += [way.group] if way.group is not None else []
            way = way.before
        return found[::-1]


class Planner:
    """Plans for one graph under several budgets; what does not depend on the budget is found once.

    Args:
        attention: whether kernels of attention store their scores.
        free: arguments that lie in memory of the caller and do not count.
        known: planners of graphs of parts by their structure; blocks that are alike have parts that are alike.
        largest: bytes that no single value may exceed; None for no limit.
    """

    def __init__(
        self,
        module: GraphModule,
        attention: Attention = "fused",
        free: frozenset[Node] = frozenset(),
        known: dict[Any, Planner] | None = None,
        largest: int | None = None,
    ) -> None:
        self.module = module
        self.attention = attention
        self.line: Timeline = timeline(module, attention, free, largest)
        self.groups = Groups(module, self.line, attention, self._alike, largest)
        self.largest = largest
        self._is_part = bool(free)  # it is asked often, and its time is a small share
        self._seconds = sum(map(seconds_of, self.line.nodes))
        self._known: dict[Any, Planner] = {} if known is None else known
        self._plans: dict[tuple[int, int], Schedule | None] = {}
        self._twins = Twins(self.line, self.groups.views)
        self._endings: dict[Any, tuple[int, list[Group]]] = {}  # the border of the first of runs alike, and its groups
        self._hopeless: dict[int, int] = {}  # for each depth, the largest budget for which nothing was found

    def inner(self, body: GraphModule) -> Planner:
        """A planner for the graph of a part, whose arguments lie in memory that is counted outside."""
        body = prepared(body)
        free = frozenset(placeholders(body))
        return Planner(body, self.attention, free, self._known, self.largest)

    def _alike(self, body: GraphModule) -> Planner:
        """A planner for a graph with the structure of a part's."""
        key = skeleton_of(body)
        if key not in self._known:
            self._known[key] = self.inner(body)
        return self._known[key]

    @property
    def unsliced_bytes(self) -> int:
        """The most alive at once without any group."""
        return max(self.line.during, default=0)

    def plan(self, budget: int, depth: int = 1) -> Schedule | None:
        """A cheap schedule under a budget in bytes; None where none is found.

        Args:
            depth: how often parts may be cut again, where that is needed or better.
        """
        best = self._planned(budget, 0)
        if depth and (best is None or not (self._is_part or best.seconds <= SLOW * self._seconds)):
            deep = self._planned(budget, depth)
            if best is None or (deep is not None and deep.cost < best.cost):
                best = deep
        return best

    def _planned(self, budget: int, depth: int) -> Schedule | None:
        if self.unsliced_bytes <= budget:
            return self.scheduled(())
        if budget <= self._hopeless.get(depth, 0):
            return None
        if (budget, depth) not in self._plans:
            searches = _SEARCHES if depth or self._is_part else _SEARCHES[:1]
            path = next(filter(None, (self._path(budget, depth, search) for search in searches)), None)
            self._plans[budget, depth] = path and agreeing(path, self.groups, self.scheduled, budget)
        found = self._plans[budget, depth]
        if found is None:
            self._hopeless[depth] = budget
        return found

    def scheduled(self, groups: Sequence[Group]) -> Schedule:
        """The schedule that some groups make, in order."""
        inside = {index for group in groups for index in range(group.start, group.stop)}
        outside = [index for index in range(len(self.line.nodes)) if index not in inside]
        most = max([*(self.line.during[index] for index in outside), *(group.bytes for group in groups)], default=0)
        whole = of_nodes([self.line.nodes[index] for index in outside], self.groups.facts)
        kernels = whole.union(*(group.kernels for group in groups))
        return Schedule(tuple(groups), most, sum(group.seconds for group in groups), kernels)

    def adopted(self, schedule: Schedule, budget: int) -> Schedule | None:
        """The schedule of a graph that is another part of the same operators; None where it does not do here.

        Parts at the borders pad and crop more or less than others; the operators between are the same.
        """
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for index, origin in enumerate(self.line.origins):
            first.setdefault(origin, index)
            last[origin] = index + 1
        groups: list[Group] = []
        for group in schedule.groups:
            begin, end = group.origins
            start, stop = first.get(begin, -1), last.get(end, -1)
            if start < 0 or stop <= start or (groups and start < groups[-1].stop):
                return None
            sweeps = [cut.recipe for cut in group.sweeps]
            hoisted = group.hoist.bytes if group.hoist is not None else None
            try:
                groups.append(
                    self.groups.given((start, stop), group.axis.dim, group.cut.recipe, sweeps, hoisted, group.depth)
                )
            except WholeError:
                return None
        found = self.scheduled(groups)
        return found if found.bytes <= budget else None

    def least(self, depth: int = 1) -> Schedule:
        """The cheapest schedule near the fewest bytes that the planner finds.

        With no byte to spare parts are slivers: the last per cents of the bytes cost a multiple of the time.
        """
        best = self.scheduled(())
        if best.bytes >= FORBIDDEN:
            best = self.plan(FORBIDDEN - 1, depth) or best
        if best.bytes >= FORBIDDEN:
            return best
        low = max(self.line.live[0], self.line.live[-1], min(self._hopeless.get(each, 0) for each in (0, depth)), 1)
        while best.bytes > low * (1 + _FLOOR):
            middle = (low + best.bytes) // 2
            found = self._planned(middle, 0) or self._planned(middle, depth)
            if found is None:
                low = middle + 1
            else:
                best = found
        roomy = self.plan(int(best.bytes * (1 + SPARE)), depth)
        return roomy if roomy is not None and roomy.cost < best.cost else best

    def _path(self, budget: int, depth: int, search: _Search) -> Schedule | None:
        count = len(self.line.nodes)
        reached: dict[int, _Way] = {0: _Way(0.0, frozenset())}
        borders = self._borders(budget, search)
        for border in range(1, count + 1):
            before = reached.get(border - 1)
            if before is not None and self.line.during[border - 1] <= budget:
                reached[border] = before.over(self.groups.facts[self.line.nodes[border - 1]])
            if border not in borders or border in reached:
                continue
            tried = borders[border], budget, search, reached
            found = self._ending(border, *tried, 0)
            if depth and (not found or self._is_slow(found)):
                found += self._ending(border, *tried, depth)
            if found:
                reached[border] = min((reached[each.start].through(each) for each in found), key=lambda way: way.cost)
        return self.scheduled(reached[count].groups()) if count in reached else None

    def _is_slow(self, groups: Sequence[Group]) -> bool:
        """Whether each of some groups adds so much time that parts that are cut again may be better."""

        def own(group: Group) -> float:
            return sum(seconds_of(node) for node in self.line.nodes[group.start : group.stop])

        return not self._is_part and all(group.seconds > SLOW * own(group) for group in groups)

    def _borders(self, budget: int, search: _Search) -> dict[int, list[int]]:
        """The borders at which a run may end, each with those at which it may begin, the nearest first."""
        live = self.line.live
        ends = (0, len(live) - 1)
        good = [
            border
            for border in range(len(live))
            if live[border] <= budget
            and border not in self.line.inside
            and (border in ends or live[border - 1] >= live[border] <= live[border + 1])
        ]
        kept = [
            border
            for position, border in enumerate(good)
            if not (
                0 < position < len(good) - 1
                and good[position - 1] == border - 1
                and good[position + 1] == border + 1
                and live[border - 1] == live[border] == live[border + 1]
                and not (search.level and max(self.line.during[border - 1 : border + 1]) > budget)
            )
        ]
        return {border: kept[max(0, place - search.far) : place][::-1] for place, border in enumerate(kept)}

    def _starts(self, stop: int, before: list[int], near: int, search: _Search) -> Iterator[int]:
        """Where a run may begin, of the borders before its end.

        The nearest, and where more is alive at them than at the end, those before them that are lower and lower, up to
        the first that is as low as the end: a run from there has all of the peak before that end in it.
        """
        live = self.line.live
        low = FORBIDDEN
        for place, border in enumerate(before):
            if place >= near and (search.far <= _NEAR or low <= live[stop]):
                return
            if place < near or live[border] < low:
                yield border
            low = min(low, live[border])

    def _ending(
        self, stop: int, before: list[int], budget: int, search: _Search, reached: Container[int], depth: int
    ) -> list[Group]:
        """The groups that end at a border: all that are cut once, or the shortest that is cut again."""
        tried = [
            start
            for start in self._starts(stop, before, _NESTED if depth else _NEAR, search)
            if start in reached and max(self.line.during[start:stop], default=0) > budget
        ]
        if not tried:
            return []
        key = depth, budget, tuple(stop - start for start in tried), self._twins.kind(tried[-1], stop)
        if key in self._endings:
            border, known = self._endings[key]
            return [self.groups.alike(group, stop - border) for group in known]
        found: list[Group] = []
        for start in tried:
            found += self.groups.of(start, stop, budget, depth)
            if depth and found:
                break
        self._endings[key] = stop, found
        return found

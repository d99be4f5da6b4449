"""Which positions of everything one part of a tiling touches.

Parts along an axis on which operators look at neighbours overlap: a part of a stack of convolutions needs rows around
it from all of them. Either each part makes its surroundings itself, or it goes on where the part before it ended and
takes the rows that it needs again from what that part kept. The first repeats work, the second holds the kept rows all
through the loop.

Source: keeping them is how streams are filtered line by line, as Mullapudi et al., "Automatically Scheduling Halide
Image Processing Pipelines", SIGGRAPH 2016, section 2 ("sliding window"), and the causal caches of video autoencoders
do; what each value keeps follows from the reach of what reads it, whatever the graph.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch.fx import Node

from penstock.passes.analysis.axes import Axis, Reach, WholeError
from penstock.passes.slicing.parts import Parts, Range
from penstock.passes.slicing.tiling import Tiling

_LEADS = 8  # that are looked at, at most

Window = tuple[Node, Axis]
"""A value from before the loop, and the axis along which the loop takes it in parts."""


@dataclass
class Spans:
    """One part of a tiling: the positions of everything it touches.

    Attributes:
        made: the positions of each result that the part makes.
        tiles: the positions of each output that are this part's own.
        windows: the positions of each value from before the loop.
        padding: for each operator and argument, what it needs beyond the borders.
        taken: the positions of results that it has from the part before; they end where those made begin.
        kept: the positions of results that it hands on to the next part.
        joined: the results of which something reads what was taken together with what is made.
    """

    made: dict[Node, Range] = field(default_factory=dict)
    tiles: dict[Node, Range] = field(default_factory=dict)
    windows: dict[Window, Range] = field(default_factory=dict)
    padding: dict[Node, dict[str, tuple[int, int]]] = field(default_factory=dict)
    taken: dict[Node, Range] = field(default_factory=dict)
    kept: dict[Node, Range] = field(default_factory=dict)
    joined: set[Node] = field(default_factory=set)

    def start(self, source: Node, axis: Axis) -> int:
        """The first position that the part has of what an operator reads."""
        if source in self.taken:
            return self.taken[source][0]
        return (self.made.get(source) or self.windows[source, axis])[0]

    @property
    def kept_of_both(self) -> Mapping[Node, Range]:
        """The positions to keep of results of which some were taken and some are made, where nothing joins these."""
        both = {node: each for node, each in self.kept.items() if self.is_joined(node, *each)}
        return {node: each for node, each in both.items() if node not in self.joined}

    def is_joined(self, source: Node, low: int, high: int) -> bool:
        """Whether some positions are put together from what was taken and what is made."""
        taken, made = self.taken.get(source), self.made.get(source)
        return taken is not None and made is not None and low < taken[1] < high

    def to_join(self, source: Node, low: int, high: int) -> Range:
        """The positions that are put together for one that reads some: all of them, where others of them are kept."""
        if source in self.kept and self.is_joined(source, *self.kept[source]):
            return self.taken[source][0], self.made[source][1]
        return low, high


def spans(tiling: Tiling, low: int, high: int) -> Spans:
    """What the part low … high-1 of the seed's axis touches when it makes its surroundings itself.

    Raises:
        WholeError: the part has no positions of an output, or needs nothing of an argument but padding.
    """
    found = Spans()
    for output, each in tiling.scales.items():
        last = tiling.axes[output].size
        num, den = each.numerator, each.denominator
        tile = min(low * num // den, last), last if high == tiling.size else min(high * num // den, last)
        if tile[0] >= tile[1]:
            raise WholeError(f"a part would have nothing of '{output.name}'")
        found.made[output] = found.tiles[output] = tile
    sliced = set(tiling.sliced)
    for node in reversed(tiling.sliced):
        if node in found.made:  # otherwise it is used by nothing but what is whole
            for source, axis, first, last in _needed(tiling, node, found):
                if source in sliced:
                    found.made[source] = _joined(found.made.get(source), first, last)
                else:
                    found.windows[source, axis] = _joined(found.windows.get((source, axis)), first, last)
    return found


def spans_of(tiling: Tiling, parts: Parts, index: int, keeps: bool) -> Spans:
    """What one of the parts of a loop touches.

    Args:
        parts: for those that keep halos, with a lead (`led`).
        keeps: whether each part goes on where the one before it ended.

    Raises:
        WholeError: there cannot be this part.
    """
    low, high = parts.range(index)
    if not keeps:
        return spans(tiling, low, high)
    done, now = _fronts(tiling, low), _fronts(tiling, high)
    found = Spans(taken=_kept(tiling, done), kept=_kept(tiling, now))
    for node in tiling.sliced:
        if node in now and done[node] < now[node]:
            found.made[node] = done[node], now[node]
    found.tiles = {output: found.made[output] for output in tiling.outputs if output in found.made}
    for node in reversed(tiling.sliced):
        for source, axis, first, last in _needed(tiling, node, found) if node in found.made else ():
            if source in tiling.needs:
                if found.taken and found.is_joined(source, first, last):
                    found.joined.add(source)
            else:
                found.windows[source, axis] = _joined(found.windows.get((source, axis)), first, last)
    return found


def led(tiling: Tiling, parts: Parts) -> Parts:
    """Parts that keep halos: they begin where the making of what the first positions need around them begins.

    So each part makes the same positions of whatever comes first, and how far it makes the rest depends on that alone:
    loops that begin with the same operators, as those of one normalization after the other, have the same parts of
    them. Of the leads within a period, it is that with which parts far from the borders keep the fewest bytes.
    """
    are_alike = parts.step % tiling.period == 0
    if are_alike not in tiling.leads:
        tiling.leads[are_alike] = _best_lead(tiling) if are_alike else _least_lead(tiling)
    return replace(parts, lead=tiling.leads[are_alike])


def refuse_padding(tiling: Tiling, parts: Parts) -> None:
    """See that no part of a loop that keeps halos makes nothing of some operator but its padding.

    Raises:
        WholeError: one does.
    """
    places = range(parts.count)
    for node, (low, high) in tiling.padded.items():
        if node not in made_by_all(tiling):
            continue
        first, last = made_by_all(tiling)[node]

        def made(index: int, node: Node = node) -> int:
            return _fronts(tiling, parts.range(index)[1])[node]

        if first < low and made(places[bisect_left(places, first + 1, key=made)]) <= low:
            raise WholeError(f"a part of '{node.name}' would be nothing but padding before the rest")
        at = bisect_left(places, last, key=made)
        if high < last and at and made(places[at - 1]) >= high:
            raise WholeError(f"a part of '{node.name}' would be nothing but padding behind the rest")


def kept_bytes(tiling: Tiling, found: Iterable[Spans]) -> int:
    """What some parts of a loop keep together."""
    extents = kept_extents(found)
    return sum(tiling.facts[node].bytes * extent // tiling.axes[node].size for node, extent in extents.items())


def kept_extents(found: Iterable[Spans]) -> dict[Node, int]:
    """The most positions that some parts of a loop keep of each result."""
    most: dict[Node, int] = {}
    for part in found:
        for node, (low, high) in part.kept.items():
            most[node] = max(high - low, most.get(node, 0))
    return most


def made_by_all(tiling: Tiling) -> Mapping[Node, Range]:
    """The positions of each result that all parts together make."""
    if not tiling.made:
        tiling.made.update(spans(tiling, 0, tiling.size).made)
    return tiling.made


def clipped(need: Reach, made: Range) -> tuple[Range, tuple[int, int]]:
    """The positions that exist of those needed, and how many lie before and behind them."""
    if need.is_parallel and made[1] <= need.axis.size:
        return made, (0, 0)
    first, last = need.needs(*made)
    size = need.axis.size
    low, high = min(max(first, 0), size), max(min(last, size), 0)
    return (low, high), (0, 0) if need.optional else (low - first, last - high)


def _needed(tiling: Tiling, node: Node, found: Spans) -> list[tuple[Node, Axis, int, int]]:
    """The positions that an operator needs of its arguments to make its own; notes its padding."""
    padding = found.padding.setdefault(node, {})
    rows = []
    for key, source, need in tiling.reads[node]:
        (first, last), padding[key] = clipped(need, found.made[node])
        if first < last:
            rows.append((source, need.axis, first, last))
        elif not need.optional:
            raise WholeError(f"a part of '{node.name}' would be nothing but padding")
    return rows


def _joined(known: Range | None, first: int, last: int) -> Range:
    return (first, last) if known is None else (min(known[0], first), max(known[1], last))


def _fronts(tiling: Tiling, high: int) -> Mapping[Node, int]:
    """How far each result is made once the seed is up to a position: as far as something needs it by then.

    Before the first position of the seed what it needs around it is made in the same steps as all the rest.
    """
    if high not in tiling.fronts:
        whole = made_by_all(tiling)
        found: dict[Node, int] = {}
        for output, each in tiling.scales.items():
            found[output] = high * each.numerator // each.denominator if high < tiling.size else whole[output][1]
        for node in reversed(tiling.sliced):
            if node not in whole:
                continue
            at = found[node] = min(found[node], whole[node][1])
            for _, source, need in tiling.reads[node]:
                if source in whole:
                    last = need.needs(at - 1, at)[1]
                    found[source] = max(found.get(source, last), last)
        tiling.fronts[high] = {node: max(at, whole[node][0]) for node, at in found.items()}
    return tiling.fronts[high]


def _best_lead(tiling: Tiling) -> int:
    """Of the leads within a period, that with which parts of whole periods far from the borders keep the fewest."""
    least, middle = _least_lead(tiling), tiling.size // 2 // tiling.period * tiling.period

    def kept(lead: int) -> int:
        return kept_bytes(tiling, [Spans(kept=_kept(tiling, _fronts(tiling, middle - lead)))])

    return min(range(least, least + min(tiling.period, _LEADS * tiling.unit), tiling.unit), key=kept)


def _least_lead(tiling: Tiling) -> int:
    """How far before the first position of the seed the making of what it needs around it begins."""
    return -(_begin(tiling) // tiling.unit) * tiling.unit


def _begin(tiling: Tiling) -> int:
    """The position of the seed, 0 or before it, up to which nothing is needed."""
    whole = made_by_all(tiling)

    def is_begun(high: int) -> bool:
        return any(at > whole[node][0] for node, at in _fronts(tiling, high).items())

    if not is_begun(0):
        return 0
    low = -1
    while is_begun(low):
        low *= 2
    high = low // 2 if low < -1 else 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_begun(middle) else (middle, high)
    return low


def _kept(tiling: Tiling, fronts: Mapping[Node, int]) -> dict[Node, Range]:
    """The positions before some fronts that are needed behind them."""
    whole = made_by_all(tiling)
    kept: dict[Node, Range] = {}
    for node, at in fronts.items():
        for _, source, need in tiling.reads[node] if at < whole[node][1] else ():
            if source in whole:
                low = max(clipped(need, (at, at + 1))[0][0], whole[source][0])
                if low < fronts[source]:
                    kept[source] = min(low, kept.get(source, (low, 0))[0]), fronts[source]
    return kept

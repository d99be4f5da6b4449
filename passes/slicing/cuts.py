"""One loop over the parts of a tiling, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveInt
from torch.fx import Node

from penstock.passes.analysis.axes import WholeError
from penstock.passes.analysis.memory import Attention
from penstock.passes.slicing.estimates import BYTES_PER_SECOND, LAUNCH, part_seconds
from penstock.passes.slicing.kernels import Kernels, cost, of_parts
from penstock.passes.slicing.parts import Parts
from penstock.passes.slicing.spans import Spans, clipped, kept_bytes, made_by_all, refuse_padding, spans_of
from penstock.passes.slicing.tiling import Tiling
from penstock.passes.slicing.timeline import part_bytes

if TYPE_CHECKING:
    from penstock.passes.slicing.planner import Schedule


_NEIGHBOURS = 4  # that are looked at, at most


class CutRecipe(BaseModel):
    """A loop: how many parts, whether they keep halos (see `Cut`), and the bytes to which each is cut again.

    The parts are those that the positions of the result have: where halos are kept, the loop makes what is around the
    first ones before, in parts of the same size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parts: PositiveInt
    keeps_halos: bool = False
    again: PositiveInt | None = None


@dataclass(frozen=True)
class Cut:
    """A loop over parts.

    Attributes:
        parts: of the axis of the loop's tiling.
        keeps_halos: whether each part keeps what the next one needs again, instead of making it again.
        bytes: the most alive at once that belongs to one part, with what parts keep.
        kept_bytes: what parts keep.
        seconds: the time that making it in parts adds, as estimated.
        flops: the arithmetic that is done again.
        kernels: of all the graphs that the parts need, about.
        inner: how each part is cut again; None where it runs as it is.
    """

    parts: Parts
    keeps_halos: bool = False
    bytes: int = 0
    kept_bytes: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    kernels: Kernels = frozenset()
    inner: Schedule | None = None

    @property
    def cost(self) -> float:
        """What cuts are compared by."""
        return cost(self.seconds, self.kernels)

    @property
    def recipe(self) -> CutRecipe:
        """What describes it."""
        again = self.bytes if self.inner is not None else None
        return CutRecipe(parts=self.parts.plain.count, keeps_halos=self.keeps_halos, again=again)


class Estimate:
    """A loop whose parts run as they are; what it costs is found out as far as it is asked for.

    Args:
        keeps: whether parts keep what the next one needs again.
        reduction: what is kept of each part in a sweep; None where the parts are.

    Raises:
        WholeError: by everything, where there cannot be these parts.
    """

    def __init__(self, tiling: Tiling, parts: Parts, keeps: bool, attention: Attention, reduction: Node | None) -> None:
        self._tiling = tiling
        self._parts = parts
        self._keeps = keeps
        self._attention: Attention = attention
        self._reduction = reduction

    def fits(self, room: int) -> bool:
        """Whether it needs no more than some bytes."""
        return self.usually_fits(room) and self.bytes <= room

    def usually_fits(self, room: int) -> bool:
        """Whether parts far from the borders need no more than some bytes: quick to tell."""
        return self._usual_bytes <= room

    @cached_property
    def bytes(self) -> int:
        """The most alive at once that belongs to one part, with what parts keep."""
        kept = self.kept_bytes - kept_bytes(self._tiling, [self._usual])
        return max(self._usual_bytes + kept, *(self._bytes_of(part) + self.kept_bytes for part in self._others))

    @cached_property
    def kept_bytes(self) -> int:
        """What parts keep."""
        return kept_bytes(self._tiling, [self._usual, *self._others])

    @cached_property
    def cut(self) -> Cut:
        """The loop."""
        tiling, parts, facts, reduction = self._tiling, self._parts, self._tiling.facts, self._reduction
        usual = self._usual
        seconds = flops = 0.0
        again = set(tiling.hoisted)
        for node in usual.made:
            once = 1 if reduction is None and node not in again else 0  # a sweep makes what will be made again
            positions = taken = 0.0
            for extent, count in self._extents(node):
                positions += count * extent
                taken += count * _seconds_of_part(tiling, node, extent) if extent else 0.0
            seconds += max(0.0, taken - once * facts[node].seconds)
            seconds += (parts.count - once) * LAUNCH * (facts[node].seconds > 0)
            flops += max(0.0, positions / tiling.axes[node].size - once) * facts[node].flops
        seconds += parts.count * _seconds_to_keep(tiling, usual)
        for source, axis in usual.windows:
            if not axis.is_contiguous(facts[source].shape):
                seconds += 2 * facts[source].bytes / BYTES_PER_SECOND
        for output in tiling.outputs if reduction is None else ():
            if not tiling.axes[output].is_contiguous(facts[output].shape):
                seconds += 2 * facts[output].bytes / BYTES_PER_SECOND
        kernels = of_parts(tiling, [usual, *self._others], reduction, parts.filled)
        return Cut(parts, self._keeps, self.bytes, self.kept_bytes, seconds, flops, kernels)

    def _extents(self, node: Node) -> list[tuple[int, float]]:
        """The positions that parts make of a result, each with how many parts do."""
        low, high = self._usual.made[node]
        if self._keeps:  # all parts together make each position once
            first, last = made_by_all(self._tiling)[node]
            return [(high - low, (last - first) / (high - low))]
        if self._parts.is_even:
            return [(high - low, self._parts.count)]
        first, last = self._others[-1].made.get(node, (0, 0))
        return [(high - low, self._parts.count - 1), (last - first, 1)]

    @cached_property
    def _usual(self) -> Spans:
        return middle(self._tiling, self._parts, self._keeps)

    @cached_property
    def _others(self) -> list[Spans]:
        return list(others(self._tiling, self._parts, self._keeps))

    @cached_property
    def _usual_bytes(self) -> int:
        return self._bytes_of(self._usual) + kept_bytes(self._tiling, [self._usual])

    def _bytes_of(self, part: Spans) -> int:
        kept = self._parts.filled * self._tiling.facts[self._reduction].bytes if self._reduction is not None else 0
        return part_bytes(self._tiling, part, self._attention) + kept


def middle(tiling: Tiling, parts: Parts, keeps: bool) -> Spans:
    """What a part far from the borders touches.

    Raises:
        WholeError: there cannot be these parts.
    """
    found = spans_of(tiling, parts, _middle(parts), keeps)
    if not found.made:
        raise WholeError("a part would have nothing to make")
    return found


def _middle(parts: Parts) -> int:
    return min(parts.count // 2, (parts.lead + parts.size) // parts.step - 1)


def _cycle(tiling: Tiling, parts: Parts) -> int:
    """After how many parts one comes that is alike."""
    return tiling.period // math.gcd(tiling.period, parts.step)


def others(tiling: Tiling, parts: Parts, keeps: bool) -> Iterator[Spans]:
    """What parts touch that may be unlike the one in the middle.

    These are the first and the last, of which there are two where the last is smaller, for both may reach beyond the
    border; and where steps are no whole periods, the neighbours of the one in the middle. Where halos are kept, these
    are the first with positions of their own and those beside it, and the last but one.

    Raises:
        WholeError: there cannot be one of the loop's parts.
    """
    if keeps:
        refuse_padding(tiling, parts)
    at = _middle(parts)
    near = range(at + 1, min(at + min(_cycle(tiling, parts), _NEIGHBOURS), parts.count - 2))
    places = {*range(max(0, parts.first - 1), min(parts.first + 2, parts.count))} if keeps else {0}
    places |= {*near}
    if parts.count > 2 and (keeps or not parts.is_even):
        places.add(parts.count - 2)
    for place in sorted({*places, parts.count - 1}):
        found = spans_of(tiling, parts, place, keeps)
        if found.made:
            yield found


def _seconds_to_keep(tiling: Tiling, part: Spans) -> float:
    """How long it takes to join what was kept to what is made, and to keep that for the next part."""
    copied, launches = kept_bytes(tiling, [part]), len(part.kept)
    joined = set()
    for node, made in part.made.items():
        for _, source, need in tiling.reads[node] if part.taken else ():
            if source not in part.taken:
                continue
            (low, high), _ = clipped(need, made)
            is_joined = part.is_joined(source, low, high)
            low, high = part.to_join(source, low, high)
            if is_joined and (source, low, high) not in joined:
                joined.add((source, low, high))
                copied += tiling.facts[source].bytes * (high - low) // need.axis.size
    return 2 * copied / BYTES_PER_SECOND + (launches + len(joined)) * LAUNCH


def _seconds_of_part(tiling: Tiling, node: Node, extent: int) -> float:
    """How long an operator takes to make so many positions."""
    facts, needs = tiling.facts, tiling.needs[node]
    whole = sum(facts[source].bytes for key, source in tiling.sources[node].items() if needs[key] is None)
    return part_seconds(facts[node].flops, facts[node].moved_bytes, extent / tiling.axes[node].size, whole)

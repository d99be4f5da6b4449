"""The loops that make a run: into how many parts, whether these keep halos, and whether they are cut again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from torch.fx import GraphModule, Node

from penstock.passes.analysis.axes import Axis, WholeError
from penstock.passes.analysis.memory import Attention
from penstock.passes.slicing.bodies import part_of
from penstock.passes.slicing.cuts import Cut, CutRecipe, Estimate, middle, others
from penstock.passes.slicing.kernels import OPERATOR
from penstock.passes.slicing.parts import Parts, choices, ladder, with_count
from penstock.passes.slicing.spans import led
from penstock.passes.slicing.tiling import Tiling
from penstock.passes.slicing.timeline import gathered_bytes

if TYPE_CHECKING:
    from penstock.passes.slicing.planner import Planner

_HARDLY = 0.03  # time that a simpler loop is worth, as a share of what its operators take
_GRAPHS = 3  # of loops that keep halos, beside the parts that make nothing of the result yet
_OPERATORS = 25  # of graphs that take as long to compile as one kernel, about


class Loop(NamedTuple):
    """Which loop of which run: that of a reduction, or the main one, after reductions or without any.

    Attributes:
        keeps: whether its parts keep halos.
    """

    start: int
    stop: int
    axis: Axis
    sweeping: bool
    reduction: Node | None = None
    keeps: bool = False


class Loops:
    """The loops over runs of one graph; what does not depend on the budget is found once.

    Args:
        inner: gives the planner for the graph of a part.
    """

    def __init__(self, module: GraphModule, attention: Attention, inner: Callable[[GraphModule], Planner]) -> None:
        self._module = module
        self._attention: Attention = attention
        self._inner_planner = inner
        self._parts: dict[tuple[Loop, Parts], Estimate] = {}
        self._inner: dict[tuple[Loop, Parts, int], Planner] = {}

    def given(self, loop: Loop, tiling: Tiling, recipe: CutRecipe, depth: int) -> Cut:
        """A loop that is given, not chosen.

        Raises:
            WholeError: there cannot be such parts.
        """
        loop = loop._replace(keeps=recipe.keeps_halos)
        parts = with_count(tiling.size, tiling.unit, tiling.period, recipe.parts)
        if recipe.again is None:
            return self.part(loop, tiling, parts).cut
        cut = self._again(loop, tiling, parts, recipe.again, depth, borders=True)
        if cut is None:
            raise WholeError(f"its parts cannot be cut again to {recipe.again} bytes")
        return cut

    def cut(self, loop: Loop, tiling: Tiling, room: int, depth: int) -> Cut | None:
        """The cheapest parts that need no more than some bytes."""
        loops = [loop, loop._replace(keeps=True)] if tiling.has_halos else [loop]
        found = [cut for each in loops if (cut := self._cheapest(each, tiling, room, depth)) is not None]
        return min(found, key=lambda cut: cut.cost, default=None)

    def _cheapest(self, loop: Loop, tiling: Tiling, room: int, depth: int) -> Cut | None:
        def fits(parts: Parts, borders: bool = True) -> bool:
            part = self.part(loop, tiling, parts)
            try:
                return part.fits(room) if borders else part.usually_fits(room)
            except WholeError:  # so thin that a part is nothing but padding
                return False

        def first(of: Sequence[Parts]) -> int:
            at = _first(of, partial(fits, borders=False))
            return next((place for place in range(at, len(of)) if fits(of[place])), len(of))

        rungs = [*ladder(tiling.size, tiling.unit, tiling.period)]
        while rungs and not fits(rungs[-1]):
            if self._is_possible(loop, tiling, rungs[-1], room):
                return self._nested(loop, tiling, room, depth, rungs) if depth else None
            rungs.pop()
        if not rungs:
            return None
        at = first(rungs)
        if loop.keeps and not loop.sweeping:
            return self._plainest(loop, tiling, [each for each in rungs[at:] if fits(each)])
        tried = rungs[at : at + 1] if rungs[at].is_even else rungs[at : at + 2]
        if at and self._may_gain(loop, tiling, rungs[at - 1], rungs[at]):
            known = choices(tiling.size, tiling.unit, tiling.period)
            between = [*known[known.index(rungs[at - 1]) + 1 : known.index(rungs[at])]]
            if rungs[at].step % tiling.period == 0:
                between = [each for each in between if each.step % tiling.period == 0]
            tried += between[first(between) :][:1]
        return min((self.part(loop, tiling, each).cut for each in tried if fits(each)), key=lambda cut: cut.cost)

    def _plainest(self, loop: Loop, tiling: Tiling, tried: Sequence[Parts]) -> Cut:
        """Of loops that keep halos, that which is compiled soonest, where it takes hardly longer than any other.

        Thin parts do no work twice, and the thinner they are the more of them are alike; but more of them make nothing
        of the result yet, and each of these is a graph. Sweeps have the same kernels, so for them graphs count more.
        """

        def compiled(cut: Cut) -> float:
            graphs = _GRAPHS + cut.parts.first
            return len(cut.kernels) + graphs * len(tiling.sliced) / _OPERATORS

        cuts = [self.part(loop, tiling, parts).cut for parts in tried]
        fastest = min(cut.seconds for cut in cuts)
        allowed = fastest + _HARDLY * sum(tiling.facts[node].seconds for node in tiling.sliced)
        return min((cut for cut in cuts if cut.seconds <= allowed), key=compiled)

    def _is_possible(self, loop: Loop, tiling: Tiling, parts: Parts, room: int) -> bool:
        """Whether there can be parts that do not fit, as far as that matters."""
        try:
            self.part(loop, tiling, parts).fits(room)
        except WholeError:
            return False
        return True

    def _nested(self, loop: Loop, tiling: Tiling, room: int, depth: int, rungs: Sequence[Parts]) -> Cut | None:
        """Parts that are cut again: few large ones or many small ones, whichever adds less time."""
        found: list[Cut] = []
        low, high = 0, len(rungs) - 1
        at = high
        while low <= high:
            cut = self._again(loop, tiling, rungs[at], room, depth, borders=False)
            if cut is None and not found:
                return None
            if cut is None:
                low = at + 1  # larger parts need more
            else:
                found.append(cut)
                high = at - 1
            at = (low + high) // 2
        for cut in sorted(found, key=lambda each: each.cost):
            checked = self._again(loop, tiling, cut.parts.plain, room, depth, borders=True)
            if checked is not None:
                return checked
        return None

    def _again(self, loop: Loop, tiling: Tiling, parts: Parts, room: int, depth: int, borders: bool) -> Cut | None:
        """Parts that are cut again: the one in the middle, and with `borders` those that may be unlike it."""
        try:
            once = self.part(loop, tiling, parts).cut
        except WholeError:
            return None
        held, seconds, worst, usual = 0, 0.0, None, None
        kernels: set[int] = set()
        parts = once.parts
        for place, found in enumerate(
            (middle(tiling, parts, loop.keeps), *(others(tiling, parts, loop.keeps) if borders else ()))
        ):
            key = (loop, parts, place)
            if key not in self._inner:
                body = part_of(self._module, tiling, found, "part", loop.reduction)
                self._inner[key] = self._inner_planner(body.module)
            gathered = once.kept_bytes + sum(gathered_bytes(tiling, found, window) for window in found.windows)
            inner = self._inner[key].adopted(usual, room - gathered) if usual is not None else None
            inner = inner or self._inner[key].plan(room - gathered, depth - 1)
            if inner is None:
                return None
            usual = usual or inner
            if worst is None or gathered + inner.bytes > held:
                held, worst = gathered + inner.bytes, inner
            seconds = max(seconds, inner.seconds)
            kernels |= inner.kernels
        flops = once.flops + parts.count * (worst.flops if worst is not None else 0.0)
        added = once.seconds + parts.count * seconds
        return Cut(parts, loop.keeps, held, once.kept_bytes, added, flops, frozenset(kernels), worst)

    def part(self, loop: Loop, tiling: Tiling, parts: Parts) -> Estimate:
        """A loop whose parts run as they are.

        Args:
            parts: plain ones.
        """
        key = loop, parts
        if key not in self._parts:
            parts = led(tiling, parts) if loop.keeps else parts
            self._parts[key] = Estimate(tiling, parts, loop.keeps, self._attention, loop.reduction)
        return self._parts[key]

    def _may_gain(self, loop: Loop, tiling: Tiling, fewer: Parts, more: Parts) -> bool:
        """Whether a number of parts in between may save more than one more kind of part costs."""
        try:
            least = self.part(loop, tiling, fewer).cut.cost
        except WholeError:
            return True
        return self.part(loop, tiling, more).cut.cost - least > OPERATOR * len(tiling.sliced)


def _first(rungs: Sequence[Parts], fits: Callable[[Parts], bool]) -> int:
    """The first of ever thinner parts that fit; the number of them where none does."""
    low, high = 0, len(rungs)
    while low < high:
        at = (low + high) // 2
        if fits(rungs[at]):
            high = at
        else:
            low = at + 1
    return low

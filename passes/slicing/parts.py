"""An axis in parts of one size, the last of which may be smaller, and the first ones where they begin before it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from penstock.passes.analysis.axes import WholeError

Range = tuple[int, int]
_CACHED = 4096  # sizes of axes


@dataclass(frozen=True)
class Parts:
    """Positions 0 … size-1 in parts.

    Attributes:
        step: positions of every part but the last, which has what is left.
        lead: how far before the first position the parts begin. Those before it have none.
    """

    size: int
    step: int
    lead: int = 0

    @property
    def count(self) -> int:
        """How many parts."""
        return -(-(self.lead + self.size) // self.step)

    @property
    def plain(self) -> Parts:
        """Parts of the same size that begin at the first position."""
        return replace(self, lead=0)

    @property
    def first(self) -> int:
        """The first part that has any positions."""
        return self.lead // self.step

    @property
    def filled(self) -> int:
        """How many parts have any positions."""
        return self.count - self.first

    @property
    def sizes(self) -> tuple[int, ...]:
        """The positions of every part that has any."""
        return tuple(high - max(low, 0) for low, high in map(self.range, range(self.first, self.count)))

    @property
    def is_even(self) -> bool:
        """Whether all parts have the same size."""
        return self.lead == self.size % self.step == 0

    def range(self, index: int) -> Range:
        """The positions low … high-1 of a part: below 0 they stand for what is made before the first."""
        low = index * self.step - self.lead
        return low, min(low + self.step, self.size)

    def ranges(self) -> Iterator[Range]:
        """Of all parts, in order."""
        return map(self.range, range(self.count))


@functools.lru_cache(_CACHED)
def choices(size: int, unit: int = 1, period: int = 1) -> tuple[Parts, ...]:
    """Every number of parts that there can be, the fewest first.

    Each has steps of whole periods if it can, and parts as even as can be. There are about twice as many as the root of
    the size.

    Args:
        unit: parts begin at multiples of it.
        period: parts that begin a number of periods apart are alike.
    """
    period = math.lcm(unit, period)
    found: list[Parts] = []
    count = 1
    while step := (size - 1) // (unit * count) * unit:  # the largest that gives more parts
        count = -(-size // step)
        steps = [-(-size // (each * count)) * each for each in (period, unit)]
        found.append(next(parts for parts in (Parts(size, each) for each in steps) if parts.count == count))
    return tuple(found)


@functools.lru_cache(_CACHED)
def ladder(size: int, unit: int = 1, period: int = 1) -> tuple[Parts, ...]:
    """Some of the choices, none with more than twice the parts of the one before.

    Those in steps of whole periods where there are any, and of these the even ones where there are any.
    """
    known = choices(size, unit, period)
    found: list[Parts] = []
    at = 1
    while known and at < known[-1].count:
        near = [each for each in known if at < each.count <= 2 * at]
        near = [each for each in near if each.step % period == 0] or near
        found += [each for each in near if each.is_even] or near[-1:]
        at = found[-1].count
    return tuple(found)


def with_count(size: int, unit: int, period: int, count: int) -> Parts:
    """As many parts as asked for.

    Raises:
        WholeError: there cannot be so many; the text says what is next.
    """
    known = choices(size, unit, period)
    below = [each for each in known if each.count <= count]
    if below and below[-1].count == count:
        return below[-1]
    near = [*below[-1:], *known[len(below) : len(below) + 1]]
    if not near:
        raise WholeError("its positions cannot be cut in parts")
    raise WholeError(f"there can be {' or '.join(str(each.count) for each in near)} parts, not {count}")


@functools.lru_cache(_CACHED)
def scale(size: int, other: int) -> Fraction:
    """Positions of one axis for one of another: the simplest ratio that misses the last by one at most.

    A convolution in steps of two makes 7 rows of 13; the ratio is a half.
    """
    for divisor in range(1, other + 1):
        found = Fraction(round(Fraction(size * divisor, other)), divisor)
        if found and abs(found * other - size) <= 1:
            return found
    return Fraction(size, other)

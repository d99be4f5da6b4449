"""An axis is a factor of one dimension; a reach says which positions of an argument a range of positions needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property


@dataclass(frozen=True)
class Axis:
    """The middle factor of a dimension that is ``outer × size × inner``, row-major.

    Position p of the axis is every index ``(o · size + p) · inner + i`` of the dimension. Frames folded into a batch,
    or heads into channels, are axes like any other.
    """

    dim: int
    outer: int
    size: int
    inner: int

    @staticmethod
    def of(shape: Sequence[int], dim: int) -> Axis:
        """A whole dimension."""
        return Axis(dim, 1, shape[dim], 1)

    @property
    def extent(self) -> int:
        """Of the dimension."""
        return self.outer * self.size * self.inner

    def at(self, dim: int) -> Axis:
        """The same factor of another dimension."""
        return replace(self, dim=dim)

    def coarser(self, size: int) -> Axis:
        """The axis whose positions are runs of this one's."""
        return replace(self, size=size, inner=self.inner * (self.size // size))

    def resized(self, shape: Sequence[int], size: int) -> tuple[int, ...]:
        """A shape with another number of positions along the axis."""
        extent = self.outer * size * self.inner
        return (*shape[: self.dim], extent, *shape[self.dim + 1 :])

    def split(self, shape: Sequence[int], size: int | None = None) -> tuple[int, ...]:
        """A shape with the dimension taken apart into its three factors."""
        size = self.size if size is None else size
        return (*shape[: self.dim], self.outer, size, self.inner, *shape[self.dim + 1 :])

    def is_contiguous(self, shape: Sequence[int]) -> bool:
        """Whether neighbouring positions lie side by side in a dense row-major tensor."""
        return math.prod(shape[: self.dim]) * self.outer == 1


@dataclass(frozen=True)
class Reach:
    """Positions lo … hi-1 of the result need positions ⌊lo·num/den⌋+first … ⌊(hi-1)·num/den⌋+last of the argument.

    What lies outside of the argument is padding, which the operator makes itself; where `optional`, it is nothing that
    this argument gives, and the argument may not be needed at all.
    """

    axis: Axis
    num: int = 1
    den: int = 1
    first: int = 0
    last: int = 0
    optional: bool = False

    @cached_property
    def is_parallel(self) -> bool:
        """Whether position i needs position i only."""
        return self.num == self.den == 1 and not (self.first or self.last or self.optional)

    def needs(self, low: int, high: int) -> tuple[int, int]:
        """The range needed, padding included: it may begin below 0 and end beyond the axis."""
        return low * self.num // self.den + self.first, (high - 1) * self.num // self.den + self.last + 1


class WholeError(Exception):
    """A result cannot be made in parts along an axis; the text says why."""


class CoarserError(Exception):
    """A result can be made in parts along an axis, but only in runs.

    Attributes:
        size: how many positions the axis has to have: it is `Axis.coarser` then.
        reach: what finer parts need of the argument, which is more than they are: they are cropped. None where they
            cannot be made.
    """

    def __init__(self, size: int, reach: Reach | None = None) -> None:
        super().__init__(f"only in {size} runs")
        self.size = size
        self.reach = reach


def through_view(result: Sequence[int], source: Sequence[int], axis: Axis) -> Axis:
    """The axis of a reshape's source that is an axis of its result.

    Raises:
        CoarserError: it is one only for runs of positions.
        WholeError: it is spread over several dimensions.
    """
    stride = axis.inner * math.prod(result[axis.dim + 1 :])  # elements between two positions
    span = stride * axis.size
    for dim, extent in enumerate(source):
        below = math.prod(source[dim + 1 :])
        if stride % below == 0 and (below * extent) % span == 0:
            return Axis(dim, below * extent // span, axis.size, stride // below)
    best: Axis | None = None
    for dim, extent in enumerate(source):
        below = math.prod(source[dim + 1 :])
        if below > stride and below % stride == 0 and span % below == 0 and (below * extent) % span == 0:
            runs = span // below
            if runs > (best.size if best else 1):
                best = Axis(dim, below * extent // span, runs, 1)
    if best is not None:
        raise CoarserError(best.size, Reach(best, den=axis.size // best.size))
    raise WholeError(f"a reshape from {tuple(source)} to {tuple(result)} mixes it with other dimensions")

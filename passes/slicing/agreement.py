"""Loops that agree on the size of their parts: operators that are alike then have the same shapes, and compile once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import TYPE_CHECKING

from penstock.passes.slicing.parts import Parts, choices
from penstock.passes.slicing.tiling import Tiling

if TYPE_CHECKING:
    from penstock.passes.slicing.cuts import Cut
    from penstock.passes.slicing.groups import Group, Groups
    from penstock.passes.slicing.planner import Schedule


def agreeing(
    schedule: Schedule, groups: Groups, scheduled: Callable[[Sequence[Group]], Schedule], budget: int
) -> Schedule:
    """A schedule that costs no more, whose loops have parts of fewer sizes where that makes it cheaper.

    Each loop is tried with the sizes of the others, together with the loops that are alike: those of one block of a
    model alone would save nothing. A loop whose parts are cut again is tried with the bytes to which others are.

    Args:
        scheduled: makes a schedule of groups.
        budget: in bytes, which the schedule keeps to.
    """
    cuts = [cut for group in schedule.groups for cut in group.cuts]
    steps = {cut.parts.step for cut in cuts if cut.inner is None}
    sizes = {cut.bytes for cut in cuts if cut.inner is not None}
    for place, group in enumerate(schedule.groups if max(len(steps), len(sizes)) > 1 else ()):
        for loop, cut in enumerate(group.cuts):
            if schedule.groups[place].cuts[loop] is not cut:
                continue  # it was changed with another one
            alike = {
                index
                for index, other in enumerate(schedule.groups)
                if loop < len(other.cuts) and _are_alike(cut, other.cuts[loop])
            }
            for to in _parts(group.tiling_of(loop), cut, steps) if cut.inner is None else _less(cut, sizes):
                changed = [
                    groups.recut(other, loop, to) if index in alike else other
                    for index, other in enumerate(schedule.groups)
                ]
                if any(each is None for each in changed):
                    continue
                found = scheduled([each for each in changed if each is not None])
                if found.bytes <= budget and found.cost < schedule.cost:
                    schedule = found
    return schedule


def _are_alike(one: Cut, other: Cut) -> bool:
    return (one.parts, one.recipe, one.kernels) == (other.parts, other.recipe, other.kernels)


def _parts(tiling: Tiling, cut: Cut, steps: Set[int]) -> Iterator[Parts]:
    """Other parts that a loop can have, of sizes that other loops have."""
    for parts in choices(tiling.size, tiling.unit, tiling.period):
        unsettles = parts.step % tiling.period and not cut.parts.step % tiling.period
        if parts.step in steps and parts != cut.parts.plain and not unsettles:
            yield parts


def _less(cut: Cut, sizes: Set[int]) -> Iterator[int]:
    """Fewer bytes to which the parts of a loop can be cut again, the most first."""
    yield from sorted((each for each in sizes if each < cut.bytes), reverse=True)

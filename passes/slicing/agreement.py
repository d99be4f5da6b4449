"""Loops that agree on the size of their parts: operators that are alike then have the same shapes, and compile once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from penstock.passes.slicing.parts import choices

if TYPE_CHECKING:
    from penstock.passes.slicing.cuts import Cut
    from penstock.passes.slicing.groups import Group, Groups
    from penstock.passes.slicing.planner import Schedule


def agreeing(
    schedule: Schedule, groups: Groups, scheduled: Callable[[Sequence[Group]], Schedule], budget: int
) -> Schedule:
    """A schedule that costs no more, whose loops have parts of fewer sizes where that makes it cheaper.

    Each loop is tried with the sizes of the others, together with the loops that are alike: those of one block of a
    model alone would save nothing. What loops that are cut again run stays.

    Args:
        scheduled: makes a schedule of groups.
        budget: in bytes, which the schedule keeps to.
    """
    steps = {cut.parts.step for group in schedule.groups for cut in group.cuts if cut.inner is None}
    for place, group in enumerate(schedule.groups if len(steps) > 1 else ()):
        for loop, cut in enumerate(group.cuts):
            if cut.inner is not None or schedule.groups[place].cuts[loop] is not cut:
                continue  # it was changed with another one
            alike = {
                index
                for index, other in enumerate(schedule.groups)
                if loop < len(other.cuts) and _are_alike(cut, other.cuts[loop])
            }
            tiling = group.tiling_of(loop)
            for parts in choices(tiling.size, tiling.unit, tiling.period):
                unsettles = parts.step % tiling.period and not cut.parts.step % tiling.period
                if parts.step not in steps or parts == cut.parts or unsettles:
                    continue
                changed = [
                    groups.recut(other, loop, parts) if index in alike else other
                    for index, other in enumerate(schedule.groups)
                ]
                if any(each is None for each in changed):
                    continue
                found = scheduled([each for each in changed if each is not None])
                if found.bytes <= budget and found.cost < schedule.cost:
                    schedule = found
    return schedule


def _are_alike(one: Cut, other: Cut) -> bool:
    return other.inner is None and one.parts == other.parts and one.kernels == other.kernels

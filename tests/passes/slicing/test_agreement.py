from __future__ import annotations

import torch

from penstock.passes.slicing.agreement import agreeing
from penstock.passes.slicing.choose import planner_of
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.planner import Planner, Schedule
from tests.passes.slicing.slices import captured
from tests.passes.slicing.test_kernels import feed_forward


def in_parts(planner: Planner, *counts: int) -> Schedule:
    """Each block of a model in so many parts."""
    blocks = enumerate(counts)
    return planner.scheduled(
        [planner.groups.given((3 * at, 3 * at + 3), 1, CutRecipe(parts=count), [], None) for at, count in blocks]
    )


def test_loops_agree_on_parts_that_fit() -> None:
    planner = planner_of(captured(feed_forward(3), torch.randn(1, 64, 8)), "main", "fused")
    mixed = in_parts(planner, 2, 4, 2)
    assert len(mixed.kernels) == 6
    for room, count in ((mixed.bytes, 2), (in_parts(planner, 4, 4, 4).bytes, 4)):
        found = agreeing(mixed, planner.groups, planner.scheduled, room)
        assert [group.cut.parts.count for group in found.groups] == [count] * 3
        assert found.bytes <= room
        assert found.cost < mixed.cost
        assert len(found.kernels) == 3


def test_loops_that_are_dear_to_change_stay() -> None:
    planner = planner_of(captured(feed_forward(2), torch.randn(1, 4096, 8)), "main", "fused")
    mixed = in_parts(planner, 2, 1024)
    assert agreeing(mixed, planner.groups, planner.scheduled, in_parts(planner, 1024, 1024).bytes) == mixed


def test_parts_that_are_cut_again_agree_on_their_bytes() -> None:
    planner = planner_of(captured(feed_forward(3), torch.randn(1, 64, 8)), "main", "fused")
    once = in_parts(planner, 2, 2, 2)
    most = once.groups[0].cut.bytes

    def again(*shares: float) -> Schedule:
        recipes = [CutRecipe(parts=2, again=int(share * most)) for share in shares]
        return planner.scheduled(
            [
                planner.groups.given((3 * at, 3 * at + 3), 1, recipe, [], None, depth=1)
                for at, recipe in enumerate(recipes)
            ]
        )

    mixed = again(0.7, 0.4, 0.7)
    assert len({group.cut.bytes for group in mixed.groups}) == 2
    found = agreeing(mixed, planner.groups, planner.scheduled, mixed.bytes)
    assert len({group.cut.bytes for group in found.groups}) == 1
    assert found.bytes <= mixed.bytes
    assert found.cost < mixed.cost
    assert len(found.kernels) < len(mixed.kernels)

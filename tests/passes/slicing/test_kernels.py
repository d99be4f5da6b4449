from __future__ import annotations

import torch
from torch import nn

from penstock.passes.slicing.choose import planner_of
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.kernels import of_nodes
from tests.passes.slicing.slices import captured


def feed_forward(blocks: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 256), nn.GELU(), nn.Linear(256, 8)) for _ in range(blocks)))


def test_blocks_that_are_alike_have_the_same_kernels() -> None:
    counts = []
    for blocks in (1, 3):
        planner = planner_of(captured(feed_forward(blocks), torch.randn(1, 64, 8)), "main", "fused")
        whole = of_nodes(planner.line.nodes, planner.groups.facts)
        schedule = planner.plan(planner.unsliced_bytes // 3)
        assert schedule is not None
        assert schedule.groups
        assert whole.isdisjoint(schedule.kernels)  # of parts, which are smaller
        counts.append((len(whole), len(schedule.kernels)))
    assert counts[0] == counts[1] == (3, 3)


def test_parts_of_another_size_have_kernels_of_their_own() -> None:
    planner = planner_of(captured(feed_forward(1), torch.randn(1, 65, 8)), "main", "fused")
    even, uneven = (planner.groups.given((0, 3), 1, CutRecipe(parts=count), [], None) for count in (5, 4))
    assert len(even.kernels) == 3
    assert len(uneven.kernels) == 6

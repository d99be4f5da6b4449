"""Axes whose extent has no divisors: the last part is smaller."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from penstock.passes.analysis.memory import memory
from penstock.passes.core.program import Program, SliceLoop
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.forms import prepared
from penstock.passes.slicing.planner import Planner
from tests.passes.slicing.slices import assert_equal, captured, in_parts, realized
from tests.passes.slicing.test_feature_slicing import Attention, Stencils, Temporal, Wide


class Levels(nn.Module):
    """Two results, one with half of the rows of the other, as they come from an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        skip = self.first(x).relu()
        return skip, self.down(skip.sigmoid())


class Reduced(nn.Module):
    """A mean, a sum and a maximum along the rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.sigmoid()
        return x * x.mean((2, 3), keepdim=True) + x.sum(2, keepdim=True) - x.amax(2, keepdim=True)


def tiles(program: Program) -> list[set[int]]:
    """The extents of the parts of every loop's first result."""
    return [{piece.tiles[0].extent for piece in op.pieces} for op in program.plan.ops() if isinstance(op, SliceLoop)]


@pytest.mark.parametrize(
    ("model", "shape", "tolerance"),
    [
        (Stencils(), (1, 4, 7, 5), 1e-5),
        (Levels(), (1, 3, 13, 5), 1e-5),
        (Temporal(), (1, 16, 7, 3, 5), 1e-4),
        (Reduced(), (1, 2, 7, 5), 1e-5),
        (Attention(), (1, 13, 16), 1e-5),
    ],
    ids=["halos", "levels", "statistics", "reductions", "attention"],
)
def test_every_number_of_parts_gives_the_same_numbers(
    model: nn.Module, shape: tuple[int, ...], tolerance: float
) -> None:
    program = captured(model, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    found = []
    for _, _, result in in_parts(program):
        assert_equal(program, result, tolerance)
        found += tiles(result)
    assert any(len(extents) > 1 for extents in found)


def test_parts_of_two_levels_end_where_both_do() -> None:
    program = captured(Levels(), torch.randn(1, 3, 13, 8))
    rows = [result for axis, parts, result in in_parts(program) if (axis.dim, parts) == (2, 4)]
    (loop,) = [op for op in rows[0].plan.ops() if isinstance(op, SliceLoop)]
    assert [
        [piece.tiles[each].extent for piece in loop.pieces for _ in range(piece.count)] for each in (0, 1)
    ] == [[4, 4, 4, 1], [2, 2, 2, 1]]  # fmt: skip


@pytest.mark.parametrize("tokens", [79, 257])
def test_few_large_parts_are_taken_where_no_even_ones_fit(tokens: int) -> None:
    program = captured(Wide(), torch.randn(1, tokens, 8))
    planner = Planner(prepared(program.graphs["main"]))
    schedule = planner.plan(int(0.3 * planner.unsliced_bytes))
    assert schedule is not None
    (group,) = schedule.groups
    assert group.cut.parts.count <= 5
    result = realized(program, planner, schedule)
    assert memory(result).activation_bytes <= 0.3 * memory(program).activation_bytes
    assert_equal(program, result)


def test_uneven_parts_are_cut_again() -> None:
    program = captured(Attention(), torch.randn(7, 13, 16))
    planner = Planner(prepared(program.graphs["main"]), "materialized")
    run = 0, len(planner.line.nodes)
    whole = planner.groups.given(run, 0, CutRecipe(parts=3), [], None)
    group = planner.groups.given(run, 0, CutRecipe(parts=3, again=whole.cut.bytes // 2), [], None)
    assert group.cut.inner is not None
    result = realized(program, planner, planner.scheduled((group,)))
    assert tiles(result) == [{3, 1}]
    assert memory(result, "materialized").activation_bytes <= group.bytes < whole.bytes
    assert_equal(program, result)

"""Parts that are alike run one graph, and begin where they are alike if they can."""

from __future__ import annotations

import torch
from torch import nn

from penstock.passes.analysis.memory import memory
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program, SliceLoop
from penstock.passes.slicing.feature_slicing import FeatureSlicing
from tests.passes.slicing.slices import assert_equal, captured, in_parts


class Upsampled(nn.Module):
    """Convolutions before and after two upsamplings: rows of the result in whole rows of the argument are four."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.interpolate(self.first(x).relu(), scale_factor=2.0)
        x = nn.functional.interpolate(self.middle(x).relu(), scale_factor=2.0)
        return self.last(x)


def loop_of(program: Program) -> SliceLoop:
    (loop,) = [op for op in program.plan.ops() if isinstance(op, SliceLoop)]
    return loop


def upsampled() -> Program:
    return captured(Upsampled(), torch.randn(1, 8, 12, 3, generator=torch.Generator().manual_seed(0)))


def test_parts_that_are_alike_run_one_graph() -> None:
    program = upsampled()
    odd = {parts: result for axis, parts, result in in_parts(program) if axis.dim == 2}
    loop = loop_of(odd[16])  # three rows each: every fourth part is like the first
    assert {piece.tiles[0].extent for piece in loop.pieces} == {3}
    assert len(loop.pieces) == 16
    assert len({piece.ops for piece in loop.pieces}) == len(odd[16].graphs) == 3 + 4 + 3, "at borders, and between"
    assert_equal(program, odd[16])
    assert len(loop_of(odd[12]).pieces) == 5  # four rows each: two at either border, all others


def test_parts_begin_whole_periods_apart_where_they_can() -> None:
    program = captured(Upsampled(), torch.randn(1, 8, 100, 16, generator=torch.Generator().manual_seed(0)))
    least = memory(program).activation_bytes
    for share in (0.8, 0.7, 0.6):
        budget = str(program.weight_bytes + int(share * least))
        sliced = FeatureSlicing(budget).run(program, Context())
        loops = [op for op in sliced.plan.ops() if isinstance(op, SliceLoop)]
        assert loops
        for loop in loops:
            assert all(piece.tiles[0].step % 2 == 0 for piece in loop.pieces if piece.count > 1)
            assert len(loop.pieces) <= 6
        assert_equal(program, sliced)

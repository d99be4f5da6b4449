from __future__ import annotations

import torch
from torch import nn

import penstock
from penstock.passes.analysis.memory import memory
from penstock.passes.core.program import SliceLoop
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import shape_of
from penstock.passes.slicing.layouts import stored_as_read
from tests.passes.slicing.slices import assert_equal


class Frames(nn.Module):
    """A block that works across frames between two that work on each frame, each with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.across = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))
        self.mix = nn.Parameter(torch.tensor([0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.first(x)
        turned = x[None].permute(0, 2, 1, 3, 4)
        turned = self.mix * turned + (1 - self.mix) * (turned + self.across(turned.relu()))
        x = turned.permute(0, 2, 1, 3, 4).reshape(x.shape)
        return x + self.last(x)


def stored(module: torch.fx.GraphModule) -> list[tuple[int, ...]]:
    """The shapes of sums."""
    add = torch.ops.aten.add.Tensor
    return [shape_of(node) for node in module.graph.nodes if node.op == "call_function" and node.target is add]


def test_a_residual_sum_comes_behind_the_way_back_and_the_others_stay() -> None:
    torch.manual_seed(0)
    (module,) = penstock.capture(Frames().eval(), (torch.randn(6, 8, 16, 16),)).graphs.values()
    edit = Rewriter(module, "test")
    stored_as_read(edit)
    frames, turned = (6, 8, 16, 16), (1, 8, 6, 16, 16)
    assert stored(module) == [frames, turned, turned, frames]
    assert stored(edit.finish()) == [frames, turned, frames, frames]


def test_a_block_across_frames_writes_over_its_input() -> None:
    torch.manual_seed(0)
    program = penstock.optimize(penstock.capture(Frames().eval(), (torch.randn(6, 8, 16, 16),)))
    value = 6 * 8 * 16 * 16 * 4
    sliced = penstock.optimize(program, memory_budget=program.weight_bytes + value * 5 // 2, pipeline="none")
    loops = [op for op in sliced.plan.ops() if isinstance(op, SliceLoop)]
    assert any(any(loop.reuses) for loop in loops)
    assert memory(sliced).activation_bytes <= value * 5 // 2
    assert_equal(program, sliced)


def test_broadcast_operands_and_values_with_several_users_stay() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, ...]:
            turned = x.permute(1, 0)
            wide = turned + row
            several = turned.exp()
            return wide.permute(1, 0), several.permute(1, 0), several.sum(1)

    (module,) = penstock.capture(Both(), (torch.randn(4, 6), torch.randn(1, 4))).graphs.values()
    edit = Rewriter(module, "test")
    stored_as_read(edit)
    assert not edit.changed

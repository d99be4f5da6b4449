from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import group_norm, scaled_dot_product_attention

import penstock
from penstock.passes.analysis.memory import memory
from penstock.passes.core.shapes import shape_of
from penstock.passes.slicing.copies import with_copies
from tests.passes.slicing.slices import assert_equal, captured

VIDEO = torch.randn(1, 6, 3, 8, 8)
HEADS, SHARED, ONE = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 1, 5, 8)
POSITIONS = torch.arange(5).flip(0)[None, None]


class FramesLast(nn.Module):
    """A convolution over frames that lie before the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, 4, 2, stride=2)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.patches(video.permute(0, 2, 1, 3, 4))


def copies(model: nn.Module | Callable[..., torch.Tensor], *args: torch.Tensor) -> list[tuple[int, ...]]:
    """The shapes of the clones that a graph gets, in order."""
    (module,) = captured(model, *args).graphs.values()
    return [shape_of(node) for node in with_copies(module).graph.nodes if node.target is torch.ops.aten.clone.default]


@pytest.mark.parametrize(
    ("model", "args", "expected"),
    [
        (FramesLast(), (VIDEO,), [(1, 3, 6, 8, 8)]),
        (lambda x: x.transpose(1, 2).softmax(-1), (HEADS,), [(1, 5, 4, 8)]),
        (lambda q, k: scaled_dot_product_attention(q, k, k), (HEADS, ONE), [(1, 4, 5, 8)] * 2),
        (lambda x: (x * 2)[:, 1:], (HEADS,), [(1, 3, 5, 8)]),
        (lambda x: (x * 2).transpose(1, 2), (HEADS,), [(1, 5, 4, 8)]),
    ],
    ids=["convolution", "softmax", "broadcast heads", "part as result", "permuted result"],
)
def test_a_view_that_a_kernel_copies_is_a_clone(
    model: nn.Module, args: tuple[torch.Tensor, ...], expected: list[tuple[int, ...]]
) -> None:
    assert copies(model, *args) == expected


@pytest.mark.parametrize(
    ("model", "args"),
    [
        (lambda x: x.transpose(1, 2) + 1, (HEADS,)),
        (lambda x: scaled_dot_product_attention(*x[:, :, None].unbind(2) * 3), (HEADS,)),
        (lambda x: scaled_dot_product_attention(*[x.transpose(1, 2)] * 3), (HEADS,)),
        (lambda x: group_norm(x.transpose(1, 2), 5), (HEADS,)),
        (lambda x, at: x.gather(-1, at.expand(4, 5, 5)), (HEADS[0], POSITIONS.expand(1, 5, 5))),
        (lambda x: (x * 2).view(20, 8), (HEADS,)),
        (lambda x: x.view(1, 20, 8).softmax(-1), (HEADS,)),
    ],
    ids=["pointwise", "attention on a part", "attention", "group norm", "gather", "whole result", "dense view"],
)
def test_other_views_stay(model: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...]) -> None:
    assert copies(model, *args) == []


def test_what_reads_a_copied_view_later_reads_the_copy() -> None:
    def residual(x: torch.Tensor) -> torch.Tensor:
        seen = (x * 2).transpose(1, 2)
        before = seen + 1
        attended = scaled_dot_product_attention(*[seen] * 3)
        return before + seen.softmax(-1) + attended + (seen + scaled_dot_product_attention(*[seen] * 3))

    graph = with_copies(next(iter(captured(residual, HEADS).graphs.values()))).graph
    (copy,) = graph.find_nodes(op="call_function", target=torch.ops.aten.clone.default)
    (view,) = copy.all_input_nodes
    assert [reader.target for reader in copy.users] == [torch.ops.aten.softmax.int, torch.ops.aten.add.Tensor]
    attention = torch.ops.aten.scaled_dot_product_attention.default
    others = [reader.target for reader in view.users if reader is not copy]
    assert others == [torch.ops.aten.add.Tensor, attention, attention]  # before the copy, and where it lies


def test_heads_that_queries_share_are_repeated_where_they_count() -> None:
    program = captured(lambda q, k: scaled_dot_product_attention(q, k, k, enable_gqa=True), HEADS, SHARED)
    (module,) = program.graphs.values()
    repeated = [node for node in with_copies(module).graph.nodes if node.target is torch.ops.aten.reshape.default]
    assert [shape_of(node) for node in repeated] == [(1, 4, 5, 8)] * 2


def test_a_result_that_is_a_part_is_made_without_the_whole() -> None:
    program = captured(lambda x: torch.relu(x.repeat(1, 1, 16))[:, 24:], torch.randn(1, 32, 8))
    whole, part = 32 * 128 * 4, 8 * 128 * 4
    sliced = penstock.optimize(program, memory_budget="min", pipeline="none")
    assert memory(program).activation_bytes == 2 * whole
    assert part < memory(sliced).activation_bytes < whole
    assert_equal(program, sliced)

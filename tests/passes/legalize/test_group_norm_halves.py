from __future__ import annotations

import pytest
import torch
from torch import nn

import penstock
from penstock.passes.core.aliases import is_view
from penstock.passes.core.context import Context
from penstock.passes.core.ops import group_normalize, group_stats
from penstock.passes.legalize.group_norm_halves import GroupNormHalves

ORDERS = [(0, 1, 2, 3, 4), (0, 2, 1, 3, 4), (1, 2, 0, 3, 4), (0, 4, 1, 2, 3), (2, 0, 1, 3, 4)]


class Stats(nn.Module):
    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x.exp()
        return group_stats(x.permute(self.order), 2), x


@pytest.mark.parametrize("order", ORDERS)
def test_statistics_of_permuted_values(order: tuple[int, ...]) -> None:
    x = torch.rand(4, 4, 4, 3, 4, generator=torch.Generator().manual_seed(0)) + 2
    program = penstock.capture(Stats(order), (x,))
    legal = GroupNormHalves().run(program, Context())
    torch.testing.assert_close(penstock.reference(legal, x), penstock.reference(program, x), rtol=1e-5, atol=1e-5)


class Halves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return group_normalize(x, group_stats(x, 2), None, None, 1e-5)


def test_double_precision_stays() -> None:
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double() + 30
    program = penstock.capture(Halves(), (x,))
    legal = GroupNormHalves().run(program, Context())
    torch.testing.assert_close(penstock.reference(legal, x), penstock.reference(program, x), rtol=1e-12, atol=1e-12)


def test_a_permuted_value_is_not_copied_for_its_statistics() -> None:
    program = penstock.capture(Stats((0, 2, 1, 3, 4)), (torch.rand(2, 4, 8, 32, 32),))
    (module,) = GroupNormHalves().run(program, Context()).graphs.values()
    reshapes = module.graph.find_nodes(op="call_function", target=torch.ops.aten.reshape.default)
    assert reshapes
    assert all(is_view(node) for node in reshapes)

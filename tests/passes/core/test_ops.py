from __future__ import annotations

import pytest
import torch

from penstock.passes.core.ops import GROUP_NORMALIZE, GROUP_STATS


@pytest.mark.parametrize("shape", [(2, 6, 5), (3, 6, 8, 64), (1, 6, 2, 128, 256), (3, 6)])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_statistics_of_groups(shape: tuple[int, ...], offset: float) -> None:
    x = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + offset
    variance, mean = torch.var_mean(x.double().reshape(shape[0], 3, -1), dim=2, correction=0)
    torch.testing.assert_close(GROUP_STATS(x, 3).double(), torch.stack([mean, variance], 2), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("groups", [1, 8])
def test_statistics_of_a_part_with_gaps(groups: int) -> None:
    part = torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0))[:, :, 1:3]
    assert torch.equal(GROUP_STATS(part, groups), GROUP_STATS(part.clone(), groups))


def test_the_halves_are_the_norm() -> None:
    x, weight, bias = torch.randn(2, 6, 8, 4).transpose(2, 3), torch.randn(6), torch.randn(6)
    for scale, shift in ((weight, bias), (None, None), (weight, None)):
        made = GROUP_NORMALIZE(x, GROUP_STATS(x, 3), scale, shift, 1e-5)
        torch.testing.assert_close(made, torch.nn.functional.group_norm(x, 3, scale, shift, 1e-5))


def test_double_precision_stays() -> None:
    x, weight = torch.randn(2, 6, 8, 4).double() + 30, torch.randn(6).double()
    made = GROUP_NORMALIZE(x, GROUP_STATS(x, 3), weight, None, 1e-5)
    torch.testing.assert_close(made, torch.nn.functional.group_norm(x, 3, weight, eps=1e-5), rtol=1e-12, atol=1e-12)


def test_a_constant_has_no_variance() -> None:
    assert torch.equal(GROUP_STATS(torch.full((1, 2, 4), 3.0), 1), torch.tensor([[[3.0, 0.0]]]))

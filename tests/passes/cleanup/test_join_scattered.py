from __future__ import annotations

import pytest
import torch

from penstock.passes.cleanup.canonicalize import Canonicalize
from penstock.passes.cleanup.dead_code import DeadCode
from penstock.passes.cleanup.join_scattered import JoinScattered

PASSES = (Canonicalize(), JoinScattered(), DeadCode())
A, B = torch.randn(2, 4, 3), torch.randn(2, 4, 3)


def interleaved(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.empty(2, 8, 3)
    out[:, 1::2] = b
    out[:, 0::2] = a
    return out


def side_by_side(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.empty(2, 4, 6)
    out[..., 3:] = b
    out[..., :3] = a
    return out


def test_listing(run_pass, assert_listing):
    _, after = run_pass(interleaved, (A, B), *PASSES)
    assert_listing(
        after,
        (
            "graph main\n"
            "  in   a  f32[2, 4, 3]\n"
            "  in   b  f32[2, 4, 3]\n"
            "  slice_scatter_1_unsqueeze = unsqueeze(a, 2)  f32[2, 4, 1, 3]\n"
            "  slice_scatter_1_unsqueeze_1 = unsqueeze(b, 2)  f32[2, 4, 1, 3]\n"
            "  slice_scatter_1_cat = cat([slice_scatter_1_unsqueeze, slice_scatter_1_unsqueeze_1], 2) f32[2, 4, 2, 3]\n"
            "  slice_scatter_1 = reshape(slice_scatter_1_cat, [2, 8, 3])  f32[2, 8, 3]\n"
            "  return (slice_scatter_1)\n"
        ),
    )


@pytest.mark.parametrize("model", [interleaved, side_by_side])
def test_what_is_covered_once_is_joined(run_pass, op_names, model):
    _, after = run_pass(model, (A, B), *PASSES)
    assert "slice_scatter" not in " ".join(op_names(after))
    assert "empty" not in " ".join(op_names(after))


def over_zeros(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(2, 8, 3)
    out[:, 0::2] = a
    return out


def written_twice(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.empty(2, 5, 3)
    out[:, :4] = a
    out[:, 1:] = b
    return out


def two_dimensions(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.empty(2, 4, 3)
    out[:, :4] = a
    out[:1] = b[:1]
    return out


@pytest.mark.parametrize("model", [over_zeros, written_twice, two_dimensions])
def test_everything_else_stays(run_pass, model):
    before, after = run_pass(model, (A, B), JoinScattered())
    assert after is before

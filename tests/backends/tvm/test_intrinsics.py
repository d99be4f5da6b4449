from __future__ import annotations

from pathlib import Path

import pytest
import torch

from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference
from tests.backends.tvm.execute import Function, simulation_of
from tests.backends.tvm.schedules.gpu.kernels import assert_equals_eager

LOWEST = torch.finfo(torch.float32).min
MASK = torch.tensor([[True, False, True], [False, False, False]])


def masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    scores = torch.where(mask, x, LOWEST)
    return torch.cat([scores.softmax(-1), scores.amax(-1, keepdim=True) / 2], -1)


def test_the_lowest_float_survives_in_opencl(tmp_path: Path) -> None:
    assert_equals_eager(Function(masked), (torch.randn(2, 3), MASK), tmp_path)


@pytest.mark.native
def test_the_lowest_float_survives_in_metal(tmp_path: Path) -> None:
    args = (torch.randn(2, 3), MASK)
    program = capture_module(Function(masked), args)
    (actual,) = simulation_of(program, tmp_path, "apple-a18-pro").run(args)
    torch.testing.assert_close(actual, reference.run(program, args)[0])


class Gate(torch.nn.Module):
    """A choice by a flag, behind a product that is stored in vectors."""

    def __init__(self, flag: bool) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(32, 32)
        self.register_buffer("flag", torch.tensor([[flag]]))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(self.flag, y, torch.zeros_like(y)) * self.linear(x)


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_chooses_between_vectors(flag: bool, tmp_path: Path) -> None:
    assert_equals_eager(Gate(flag), (torch.randn(1, 32), torch.randn(1, 32)), tmp_path)

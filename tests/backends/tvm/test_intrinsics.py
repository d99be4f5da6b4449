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

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backends.targets import find_target
from penstock.frontends.torch_export import capture_module
from tests.backends.tvm.execute import runner_of, simulation_of
from tests.backends.tvm.schedules.gpu.kernels import PHONES, kernels_of


def layer(k: int, n: int, target: str) -> tuple[nn.Module, torch.Tensor]:
    """A linear layer with an activation and a row for it, in the precision of a device."""
    torch.manual_seed(0)
    dtype = torch.float16 if find_target(target).limits.fp16 else torch.float32
    return nn.Sequential(nn.Linear(k, n), nn.SiLU()).to(dtype).eval(), torch.randn(1, k, dtype=dtype)


@pytest.mark.parametrize("target", [*PHONES, "nvidia-h200"])
@pytest.mark.parametrize(("k", "n"), [(320, 96), (48, 130)])
def test_a_sum_is_shared_among_threads(target: str, k: int, n: int, tmp_path: Path) -> None:
    module, row = layer(k, n, target)
    (kernel,) = kernels_of(module, (row,), target)
    assert kernel.local_memory_bytes or k < 64, "sums pass through local memory"
    program = capture_module(module, (row,))
    with torch.no_grad():
        expected = copy.deepcopy(module).float()(row.float())
    run = (runner_of if not find_target(target).host else simulation_of)(program, tmp_path, target).run
    torch.testing.assert_close(run((row,))[0].float(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("target", [*PHONES, "nvidia-h200"])
def test_few_columns_of_long_sums_fill_the_device(target: str) -> None:
    module, row = layer(1024, 1024, target)
    (kernel,) = kernels_of(module, (row,), target)
    threads = torch.tensor(kernel.grid).prod() * torch.tensor(kernel.block).prod()
    assert threads >= 4 * 1024, f"{kernel.grid} of {kernel.block}"


def test_processors_keep_whole_sums() -> None:
    module, row = layer(320, 96, "opencl")
    (kernel,) = kernels_of(module, (row,), "opencl")
    assert not kernel.local_memory_bytes, "barriers cost more than they bring"


def test_many_columns_are_left_to_tiles() -> None:
    target = find_target("mali-g78").compute
    module, row = layer(16, 8 * target.compute_units * target.threads, "mali-g78")
    (kernel,) = kernels_of(module, (row,), "mali-g78")
    assert not kernel.local_memory_bytes

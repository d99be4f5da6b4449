"""Apple's matrix units, executed by the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backends.quality import faults
from penstock.backends.targets import find_target
from penstock.frontends.torch_export import capture_module
from tests.backends.tvm.execute import Function, simulation_of
from tests.backends.tvm.schedules.gpu.kernels import kernels_of

APPLE = "apple-a18-pro"
r = torch.randn

CASES = {
    "linear": (nn.Linear(64, 192), (r(64, 64),)),
    "a rest on all sides": (nn.Linear(60, 180), (r(2, 62, 60),)),
    "conv2d": (nn.Sequential(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.SiLU()), (r(3, 32, 16, 16),)),
    "conv3d": (nn.Conv3d(16, 64, 3, padding=1), (r(2, 16, 3, 4, 8),)),
    "groups": (nn.Conv2d(64, 128, 3, padding=1, groups=2), (r(2, 64, 8, 8),)),
    "products": (Function(lambda a, b: a @ b), (r(2, 3, 32, 32), r(2, 3, 32, 64))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.float32, 1e-5)], ids=["half", "float"])
def test_equals_eager(name: str, dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    module, args = CASES[name]
    taken = tuple(arg.to(dtype) for arg in args)
    program = capture_module(module.to(dtype).eval(), taken)
    (found,) = simulation_of(program, tmp_path, APPLE).run(taken)
    with torch.no_grad():
        expected = module.float()(*(arg.float() for arg in taken))
    assert (found.float() - expected).abs().max() <= tolerance * expected.abs().max()
    kernels = kernels_of(module.to(dtype), taken, APPLE)
    module.float()
    assert any("simdgroup_multiply_accumulate" in kernel.source for kernel in kernels)
    assert not [fault for kernel in kernels for fault in faults(kernel, find_target(APPLE))]


def test_sums_are_of_float32_whatever_the_operands() -> None:
    (kernel,) = kernels_of(nn.Linear(64, 192).half(), (r(64, 64).half(),), APPLE)
    assert "make_filled_simdgroup_matrix<float, 8, 8>" in kernel.source
    assert "make_filled_simdgroup_matrix<half" not in kernel.source
    assert kernel.work.flops >= 2 * 64 * 192 * 64


@pytest.mark.parametrize(("rows", "columns"), [(4, 512), (512, 8), (32, 64)])
def test_what_does_not_fill_the_tiles_or_the_cores_is_left_alone(rows: int, columns: int) -> None:
    kernels = kernels_of(nn.Linear(64, columns).half(), (r(rows, 64).half(),), APPLE)
    assert all("simdgroup" not in kernel.source for kernel in kernels)

"""Models in less memory, through the native runner: the same numbers, in an arena that keeps to the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import penstock
from examples.zoo import ZOO
from penstock.backends.runner import opencl_devices
from penstock.passes.core.program import SliceLoop

pytestmark = [pytest.mark.models, pytest.mark.native]


@pytest.mark.parametrize(
    ("name", "share", "target"),
    [
        ("unet2d", 0.5, "llvm"),
        ("animatediff_unet", 0.5, "llvm"),
        ("mamba", 0.6, "llvm"),
        ("ltx_dit", 0.75, "llvm"),
        ("wan_dit", 0.75, "llvm"),
        ("svd_vae_decoder", 0.6, "llvm"),
        ("unet2d", 0.5, "opencl"),
        ("wan_dit", 0.75, "opencl"),
    ],
)
def test_a_sliced_model_equals_eager(name: str, share: float, target: str, tmp_path: Path) -> None:
    if target == "opencl" and not opencl_devices():
        pytest.skip("no OpenCL device")
    module, args = ZOO[name]()
    with torch.no_grad():
        for parameter in module.parameters():  # norms of a new model are all alike
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
        expected = module(*args)
    program = penstock.optimize(penstock.capture(module, args))
    before = penstock.memory(program)
    budget = before.weight_bytes + int(share * before.activation_bytes)
    sliced = penstock.optimize(program, target, budget, pipeline="none")
    assert any(isinstance(op, SliceLoop) for op in sliced.plan.ops())
    artifact = penstock.compile(sliced, target, tmp_path / "net.penstock", cache=False)
    memory = artifact.manifest.memory
    assert memory.arena_bytes <= 1.05 * max(memory.lower_bound_bytes, penstock.memory(sliced).activation_bytes)
    loaded = penstock.load(artifact.path)
    for _ in range(2):
        torch.testing.assert_close(loaded(*args), expected, rtol=1e-4, atol=1e-4)

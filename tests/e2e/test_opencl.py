"""Every model of the zoo on OpenCL: each kernel of each model runs, on whatever device this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import penstock
from examples.zoo import ZOO
from penstock.backends.runner import opencl_devices

pytestmark = pytest.mark.models


@pytest.mark.parametrize("name", ZOO)
def test_compiled_model_equals_eager(name: str, tmp_path: Path) -> None:
    assert opencl_devices(), "no OpenCL here: pip install pocl-binary-distribution, or apt install pocl-opencl-icd"
    module, args = ZOO[name]()
    with torch.no_grad():
        expected = module(*args)
    program = penstock.optimize(penstock.capture(module, args), target="opencl")
    artifact = penstock.compile(program, "opencl", tmp_path / "net.penstock", cache=False)
    loaded = penstock.load(artifact.path)
    torch.testing.assert_close(loaded(*args), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loaded(*args), expected, rtol=1e-4, atol=1e-4)
    memory = artifact.manifest.memory
    assert memory.arena_bytes <= 1.05 * memory.lower_bound_bytes

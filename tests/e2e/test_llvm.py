"""Every model of the zoo, from capture to a loaded artifact that runs on this machine's CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import penstock
from examples.zoo import ZOO

pytestmark = pytest.mark.models


@pytest.mark.parametrize("name", ZOO)
def test_compiled_model_equals_eager(name: str, tmp_path: Path) -> None:
    module, args = ZOO[name]()
    with torch.no_grad():
        expected = module(*args)
    program = penstock.capture(module, args)
    assert torch.equal(penstock.reference(program, *args), expected), "capture is not bit-exact"
    program = penstock.optimize(program, target="llvm", pipeline="mobile")
    penstock.compile(program, target="llvm", output=tmp_path / "net.penstock", cache=False)
    actual = penstock.load(tmp_path / "net.penstock")(*args)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)

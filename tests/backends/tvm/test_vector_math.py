from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.cpu.together import run

SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -200, 200, -100, 88.5, 90, 1e-30])
RANGE = torch.cat([torch.linspace(-87, 88, 40_001), torch.logspace(-30, 0, 500), -torch.logspace(-30, 0, 500)])
FUNCTIONS = {"exp": torch.exp, "erf": torch.erf, "tanh": torch.tanh}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_close_everywhere_and_right_at_the_ends(name: str, tmp_path: Path) -> None:
    function: Callable[[torch.Tensor], torch.Tensor] = FUNCTIONS[name]
    outcome = run({"range": (Function(function), (RANGE,)), "ends": (Function(function), (SPECIAL,))}, tmp_path)
    exact = function(RANGE.double())
    error = (outcome.found["range"].double() - exact).abs() / exact.abs().clamp(min=1e-37)
    assert float(error.max()) < 5e-7
    torch.testing.assert_close(outcome.found["ends"], function(SPECIAL), rtol=5e-7, atol=1e-44, equal_nan=True)

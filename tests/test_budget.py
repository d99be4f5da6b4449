from __future__ import annotations

import re

import pytest
import torch

from penstock.budget import check_budget
from penstock.frontends.torch_export import capture_module
from penstock.passes.analysis.memory import memory
from penstock.passes.core.errors import BudgetError
from penstock.passes.core.program import Program


class Wide(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.widen = torch.nn.Linear(8, 4096, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.widen(x).relu().sum()


@pytest.fixture(scope="module")
def program() -> Program:
    return capture_module(Wide(), (torch.ones(16, 8),))


def test_a_budget_that_is_met_to_the_byte(program: Program) -> None:
    figures = memory(program)
    assert check_budget(program, figures.peak_bytes) == figures


def test_one_byte_less(program: Program) -> None:
    figures = memory(program)
    with pytest.raises(BudgetError) as caught:
        check_budget(program, figures.peak_bytes - 1)
    assert caught.value.exit_code == 5
    lines = str(caught.value).splitlines()
    assert lines[0] == "the memory budget of 640.0 KiB cannot be met: the program needs 640.0 KiB, 1 B more"
    assert lines[1] == "  weights      128.0 KiB"
    pattern = r"  activations  512\.0 KiB, at the peak while 'relu' runs \(tests/test_budget\.py:\d+ in forward\)"
    assert re.fullmatch(pattern, lines[2])
    assert lines[3] == "  largest tensors alive at the peak:"
    assert re.fullmatch(r"    256\.0 KiB  linear  f32\[16, 4096\]  widen  .*test_budget.py:\d+ in forward", lines[4])
    assert lines[-1] == (
        "  Use the precision float16, or capture at a smaller resolution, frame count or batch; or allow 640.0 KiB. "
        "The budget 'min' reports the least and never fails."
    )


def test_weights_alone(program: Program) -> None:
    with pytest.raises(BudgetError, match="The weights alone exceed it: use the precision float16 or a smaller model"):
        check_budget(program, 1000)


def test_a_long_list_is_cut() -> None:
    class Many(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x + index for index in range(12)])

    program = capture_module(Many(), (torch.ones(256),))
    with pytest.raises(BudgetError, match=r"\n    … \d+ more, \S+ KiB together\n"):
        check_budget(program, 1)


def test_a_program_without_operators() -> None:
    program = capture_module(torch.nn.Identity(), (torch.ones(256),))
    with pytest.raises(BudgetError, match=r"activations  1\.0 KiB\n"):
        check_budget(program, 1)

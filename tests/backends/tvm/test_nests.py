from __future__ import annotations

import pytest
import torch
from torch import nn

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.frontends.torch_export import capture_module
from tests.backends.tvm.execute import Function


class Residual(nn.Module):
    """A linear layer, and what it adds to."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return residual + self.linear(x)


def overwritten(model: nn.Module, *args: torch.Tensor) -> list[tuple[int, ...]]:
    """For each operand of a kernel on a CPU that its result may lie in: the kernel's number and the operand's."""
    kernels = compile_program(capture_module(model, args), find_target("llvm")).kernels
    return [(index, read) for index, kernel in enumerate(kernels) for _, read in kernel.in_place]


@pytest.mark.parametrize("width", [128, 131])
def test_vectors_and_their_rest_write_over_an_operand(width: int) -> None:
    x, y = torch.randn(2, 77, width)
    assert overwritten(Function(lambda x, y: x * (1 + torch.tanh(y))), x, y) == [(0, 0), (0, 1)]


def test_a_linear_layer_writes_over_what_it_adds_to_and_not_over_what_it_multiplies() -> None:
    torch.manual_seed(0)
    x, residual = torch.randn(2, 1, 77, 32)
    assert len(overwritten(Residual(), x, residual)) == 1


def test_elements_that_change_places_are_not_written_over() -> None:
    assert overwritten(Function(lambda x: x + x.T), torch.randn(77, 77)) == []

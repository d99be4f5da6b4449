from __future__ import annotations

import torch
from torch import nn

from penstock.backends.tvm.packing import pack_weights
from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference
from penstock.passes.core.program import Program


def weights(program: Program) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in program.weights.items()}


def test_output_channels_come_last_and_nothing_changes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.Flatten(2), nn.Linear(16, 6))
    program = capture_module(net, (torch.randn(1, 3, 8, 8),))
    packed = pack_weights(program)
    assert weights(packed) == {
        "0.weight.packed": (5, 5, 3, 8),
        "0.bias": (8,),
        "2.weight.packed": (16, 6),
        "2.bias": (6,),
    }
    results = (reference.run(each, program.examples) for each in (program, packed))
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(10, 4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(nn.functional.embedding(tokens, self.table), self.table)


def test_a_weight_that_something_else_reads_stays() -> None:
    program = capture_module(Tied(), (torch.tensor([[1, 2]]),))
    assert pack_weights(program) is program or weights(pack_weights(program)) == {"table": (10, 4)}

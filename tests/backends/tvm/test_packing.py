from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backends.runner import opencl_devices
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program, launches_of
from penstock.backends.tvm.packing import pack_weights
from penstock.backends.tvm.standalone import load_compiled
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


class Normed(Tied):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens) / self.table.norm(dim=1)


def test_a_weight_that_something_else_reads_stays() -> None:
    program = capture_module(Normed(), (torch.tensor([[1, 2]]),))
    assert weights(pack_weights(program)) == {"table": (10, 4)}


@pytest.mark.parametrize("target", ["llvm", "opencl"])
def test_a_table_that_is_a_weight_too_is_stored_once(target: str, tmp_path: Path) -> None:
    if target == "opencl" and not opencl_devices():
        pytest.skip("no OpenCL device")
    args = (torch.tensor([[1, 9], [0, 4]]),)
    module = Tied()
    program = capture_module(module, args)
    launches = launches_of(program, find_target(target))
    stored = {storage.weight for body in launches.bodies.values() for storage in body.storages} - {""}
    assert len(stored) == 1
    assert "table" not in stored
    compiled, device = compile_program(program, find_target(target)), find_target(target)
    held = {**program.weights, **compiled.constants}
    runner = load_compiled(compiled, program.plan, program.signature, held, device, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(runner.run(args)[0], module(*args))


def test_an_embedding_alone_keeps_its_table() -> None:
    program = capture_module(nn.Embedding(10, 4), (torch.tensor([[1, 2]]),))
    assert weights(pack_weights(program)) == {"weight": (10, 4)}

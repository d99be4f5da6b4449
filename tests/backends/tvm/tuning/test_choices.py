"""Whatever is chosen, the numbers stay."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import penstock
from penstock.backends.runner import opencl_devices
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.backends.tvm.schedules.tunable import deciding
from penstock.backends.tvm.standalone import load_compiled
from penstock.backends.tvm.tuning.measure import LocalBench, One
from penstock.backends.tvm.tuning.remote import RemoteBench, connected
from penstock.backends.tvm.tuning.tuner import questions
from penstock.compilation import legalized
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program

pytestmark = pytest.mark.native
TARGETS = ["llvm", *(["opencl"] if opencl_devices() else [])]


class Mixed(nn.Module):
    """A strided convolution and a linear layer, of odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(5, 18, 3, stride=2, padding=1), nn.Linear(18, 37)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.relu(self.conv(x)).flatten(2).transpose(1, 2))


@pytest.fixture(scope="module")
def captured() -> Program:
    torch.manual_seed(0)
    return penstock.capture(Mixed().eval(), (torch.randn(2, 5, 13, 11),))


@pytest.mark.parametrize("target", TARGETS)
def test_other_choices_compute_the_same(captured: Program, target: str, tmp_path: Path) -> None:
    device = find_target(target)
    program = legalized(captured, device)
    expected = penstock.reference(captured, *captured.examples)
    asked = questions(program, device)
    assert {len(question.choices) > 2 for question in asked} == {True}
    assert len(asked) == 2
    for question in asked:
        for number, choice in enumerate(question.choices[1::5]):
            folder = tmp_path / f"{question.key}-{number}"
            folder.mkdir()
            with deciding(One(question.key, choice)):
                compiled = compile_program(program, device)
            runner = load_compiled(compiled, program.plan, program.signature, program.weights, device, folder)
            torch.testing.assert_close(runner.run(captured.examples)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_kernel_is_measured_alone(captured: Program, target: str) -> None:
    device = find_target(target)
    question = next(iter(questions(legalized(captured, device), device)))
    bench = LocalBench(question, device)
    found = bench.measure(question.choices[1])
    assert bench.seconds > 0
    assert found.seconds > 0
    assert found.ratio > 0


def test_a_kernel_is_measured_on_another_host(captured: Program) -> None:
    from tvm import rpc

    device = find_target("llvm")
    question = next(iter(questions(legalized(captured, device), device)))
    server = rpc.Server("127.0.0.1", port=9310, port_end=9390, silent=True)
    try:
        with connected(f"127.0.0.1:{server.port}", None) as session:
            bench = RemoteBench(question, device, session)
            found = bench.measure(question.choices[1])
    finally:
        server.terminate()
    assert bench.seconds > 0
    assert found.ratio > 0


def test_nobody_there() -> None:
    with (
        pytest.raises(UsageError, match=r"no RPC server answers at 127.0.0.1:1: .*start one there"),
        connected("127.0.0.1:1", None),
    ):
        pass
    with pytest.raises(UsageError, match="'phone' is no address; write HOST:PORT"), connected("phone", None):
        pass

"""Programs on other devices than the CPU: `meta`, which refuses to mix devices, and a GPU where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import penstock
from penstock.passes.core import reference
from penstock.passes.core.context import Context
from penstock.passes.core.errors import UsageError
from penstock.passes.core.ops import CAUSAL_ATTENTION, GROUP_NORMALIZE, GROUP_STATS
from penstock.passes.core.program import Program, SliceLoop
from penstock.passes.slicing.feature_slicing import FeatureSlicing

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["meta", pytest.param("cuda", marks=GPU)]


class Ramped(nn.Module):
    """Has weights, one of them twice, and makes tensors of numbers alone."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Linear(16, 64)
        self.norm = nn.GroupNorm(4, 64)
        self.again = nn.Linear(64, 16)
        self.again.bias = nn.Parameter(torch.rand(16))
        self.last = nn.Linear(16, 16)
        self.last.bias = self.again.bias

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        wide = nn.functional.gelu(self.expand(x + places[:, None]))
        wide = self.norm(wide.transpose(1, 2)).transpose(1, 2)
        mask = torch.zeros(x.shape[1], device=x.device) + (places > 2)
        return self.last(self.again(wide)) * mask[:, None]


def sliced(program: Program) -> Program:
    budget = program.weight_bytes + penstock.memory(program).activation_bytes // 2
    result = FeatureSlicing(str(budget)).run(program, Context())
    assert any(isinstance(op, SliceLoop) for op in result.plan.ops())
    return result


def captured() -> Program:
    torch.manual_seed(0)
    return penstock.capture(Ramped(), (torch.rand(2, 256, 16),))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimized", [False, True])
def test_a_program_runs_where_its_weights_lie(device: str, optimized: bool) -> None:
    program = captured()
    program = penstock.optimize(program) if optimized else program
    for each in (program, sliced(program)):
        moved = each.to(device)
        assert moved.device.type == device
        assert {tensor.device for tensor in (*moved.weights.values(), *moved.examples)} == {moved.device}
        (result,) = reference.run(moved, moved.examples)
        assert (result.device, result.shape, result.dtype) == (moved.device, (2, 256, 16), torch.float32)
        if device != "meta":
            expected = penstock.reference(each, *each.examples)
            torch.testing.assert_close(result.cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_inputs_come_from_anywhere(device: str) -> None:
    moved = captured().to(device)
    assert penstock.reference(moved, torch.rand(2, 256, 16)).device == moved.device


def test_the_same_device_gives_the_same_program() -> None:
    program = captured()
    assert program.to("cpu") is program


def test_moving_keeps_what_is_one_and_what_is_trained() -> None:
    program = captured()
    moved = program.to("meta")
    assert moved.weight_bytes == program.weight_bytes
    assert all(isinstance(tensor, nn.Parameter) for tensor in moved.weights.values())
    assert program.device.type == "cpu"


@GPU
def test_passes_run_on_a_program_that_moved() -> None:
    program = captured().to("cuda")
    made = sliced(penstock.optimize(program))
    assert made.device == program.device
    assert reference.run(made, made.examples)[0].device == program.device


@GPU
def test_a_model_on_a_gpu_is_captured_as_on_the_cpu() -> None:
    model = Ramped()
    example = torch.rand(2, 256, 16)
    expected = str(penstock.capture(model, (example,)).graphs["main"].graph)
    program = penstock.capture(model.cuda(), (example.cuda(),))
    assert str(program.graphs["main"].graph) == expected
    made = penstock.reference(sliced(penstock.optimize(program)), example)
    torch.testing.assert_close(made, model(example.cuda()), rtol=1e-3, atol=1e-3)


def test_data_comes_after_slicing() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        program = penstock.capture(Ramped(), (torch.rand(2, 256, 16),))
    planned = sliced(penstock.optimize(program))
    model, example = Ramped(), torch.rand(2, 256, 16)
    unread = {**model.state_dict(), "encoder.weight": torch.rand(3)}
    made = planned.with_data(unread, [example])
    assert not made.is_fake
    torch.testing.assert_close(penstock.reference(made, example), model(example), rtol=1e-5, atol=1e-5)


def test_data_that_does_not_fit_is_refused() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        program = penstock.capture(nn.Linear(3, 2), (torch.rand(1, 3),))
    weight, bias, example = torch.rand(2, 3), torch.rand(2), torch.rand(1, 3)
    with pytest.raises(UsageError, match="there is no weight 'bias' among those given"):
        program.with_data({"weight": weight}, [example])
    with pytest.raises(UsageError, match=r"weight 'bias': expected \(2,\) torch.float32, got \(3,\) torch.float32"):
        program.with_data({"weight": weight, "bias": torch.rand(3)}, [example])
    with pytest.raises(UsageError, match=r"'input_1': expected \(1, 3\) torch.float32, got \(1, 3\) torch.float64"):
        program.with_data({"weight": weight, "bias": bias}, [example.double()])
    with pytest.raises(UsageError, match=r"expected 1 example\(s\), got 0"):
        program.with_data({"weight": weight, "bias": bias}, [])
    with pytest.raises(UsageError, match="'weight' is on cpu, others are on meta"):
        program.with_data({"weight": weight, "bias": bias.to("meta")}, [example])
    whole = program.with_data({"weight": weight, "bias": bias}, [example])
    with pytest.raises(UsageError, match="has its weights already"):
        whole.with_data({"weight": weight, "bias": bias}, [example])


@GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_own_operators_on_a_gpu(dtype: torch.dtype) -> None:
    x = (2 * torch.randn(3, 6, 8, 64) + 5).to(dtype)
    x[0, :2] = 3.0  # a group without variance
    stats = GROUP_STATS(x.cuda(), 3)
    torch.testing.assert_close(stats.cpu(), GROUP_STATS(x, 3), rtol=1e-5, atol=1e-5)
    weight, bias = torch.randn(6).to(dtype), torch.randn(6).to(dtype)
    made = GROUP_NORMALIZE(x.cuda(), stats, weight.cuda(), bias.cuda(), 1e-5)
    torch.testing.assert_close(
        made.cpu(), torch.nn.functional.group_norm(x, 3, weight, bias, 1e-5), rtol=1e-2, atol=1e-2
    )
    query, key = torch.randn(2, 3, 8).to(dtype), torch.randn(2, 5, 8).to(dtype)
    places = torch.tensor([1, 2, 3])
    on_gpu = CAUSAL_ATTENTION(query.cuda(), key.cuda(), key.cuda(), places.cuda(), None, False)
    torch.testing.assert_close(
        on_gpu.cpu(), CAUSAL_ATTENTION(query, key, key, places, None, False), rtol=1e-2, atol=1e-2
    )

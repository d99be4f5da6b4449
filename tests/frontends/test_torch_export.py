from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from penstock.frontends.torch_export import capture_exported, capture_module, capture_pt2
from penstock.passes.core import reference
from penstock.passes.core.errors import CaptureError, PenstockError, UnsupportedOperatorError, UsageError
from penstock.passes.core.program import Program

X = torch.randn(2, 4)
PAIR = {"tuple": [{"tensor": 0}, {"dict": {"b": {"tensor": 1}}}]}


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def capture(function: Any, *args: Any, **kwargs: Any) -> Program:
    return capture_module(Function(function), args, kwargs)


class Counter(nn.Module):
    """Adds its input to a buffer and returns twice the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.ones(2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.copy_(x + self.total)
        return self.total * 2


class KeyCache(nn.Module):
    """Writes one row of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(3, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows[1:3] = x
        return self.rows.sum(0)


def test_a_mutated_buffer_becomes_an_input_and_an_output() -> None:
    module = Counter()
    program = capture_module(module, (X,))
    assert torch.equal(module.total, torch.ones(2, 4)), "capture must not run the mutation on the user's module"
    assert program.signature.states == ("total",)
    assert [spec.name for spec in program.signature.inputs] == ["x", "total"]
    assert [spec.name for spec in program.signature.outputs] == ["output", "total_next"]
    total = program.examples[1]
    for _ in range(3):
        expected = module(X)
        result, total = reference.run(program, (X, total))
        assert torch.equal(result, expected)
        assert torch.equal(total, module.total)


def test_a_buffer_written_in_part() -> None:
    module = KeyCache()
    program = capture_module(module, (X,))
    result, rows = reference.run(program, program.examples)
    assert torch.equal(result, module(X))
    assert torch.equal(rows, module.rows)


def test_writing_into_an_argument_is_refused() -> None:
    def write(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x * 2

    with pytest.raises(CaptureError, match=r"forward writes into its argument .* return the new value instead"):
        capture(write, X.clone())


def test_control_flow_on_values_is_refused_with_the_line() -> None:
    def choose(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(CaptureError) as caught:
        capture(choose, X)
    text = str(caught.value)
    assert "non-strict:" in text
    assert "strict:" in text
    assert "torch.where" in text


@pytest.mark.parametrize("kind", ["cond", "while"])
def test_loops_and_branches_are_unsupported_operators(kind: str) -> None:
    def branch(x: torch.Tensor) -> Any:
        if kind == "cond":
            return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
        loop = torch._higher_order_ops.while_loop
        return loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), x))[1]

    with pytest.raises(UnsupportedOperatorError) as caught:
        capture(branch, X)
    (item,) = caught.value.unsupported
    assert kind in item.operator
    assert "unroll" in item.advice


def test_data_is_traced() -> None:
    """What is written through ``.data`` would be lost without notice; a video transformer does it."""

    def fill(x: torch.Tensor) -> torch.Tensor:
        padded = x.new_zeros(2, 6)
        padded.data[:, 2:].copy_(x)
        return padded + 1

    program = capture(fill, X)
    assert torch.equal(reference.run(program, (X,))[0], fill(X))


def test_assertions_of_operators_leave_no_trace() -> None:
    program = capture(torch.linalg.inv, torch.eye(3))
    assert torch.equal(reference.run(program, (torch.eye(3),))[0], torch.eye(3))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("mode", ["linear", "bilinear", "bicubic", "trilinear"])
def test_interpolation_is_equal_to_eager_bit_by_bit(mode: str, corners: bool) -> None:
    dims = {"linear": 1, "trilinear": 3}.get(mode, 2)
    x = torch.randn(2, 3, *(6, 9, 5)[:dims])

    def stretch(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, size=(7, 22, 13)[:dims], mode=mode, align_corners=corners)

    assert torch.equal(reference.run(capture(stretch, x), (x,))[0], stretch(x))


def test_weight_normalisation_is_equal_to_eager_bit_by_bit() -> None:
    conv, x = nn.utils.parametrizations.weight_norm(nn.Conv1d(12, 30, 7)), torch.randn(1, 12, 26)
    assert torch.equal(reference.run(capture_module(conv, (x,)), (x,))[0], conv(x))


def test_arguments_and_results_keep_their_nest() -> None:
    def nested(pair: Any, scale: int = 2, extra: Any = None, *, named: torch.Tensor) -> Any:
        return {"sum": pair[0] + pair[1]["b"] * scale, "rest": (named, [named + 1])}

    program = capture(nested, (X, {"b": X}), 3, None, named=X)
    assert [tuple(spec.shape) for spec in program.signature.inputs] == [(2, 4)] * 3
    assert program.signature.arguments == {
        "tuple": [
            {
                "tuple": [
                    {"tuple": [{"tensor": 0}, {"dict": {"b": {"tensor": 1}}}]},
                    {"constant": 3},
                    {"constant": None},
                ]
            },
            {"dict": {"named": {"tensor": 2}}},
        ]
    }
    assert program.signature.result == {
        "dict": {"sum": {"tensor": 0}, "rest": {"tuple": [{"tensor": 1}, {"list": [{"tensor": 2}]}]}}
    }


def test_weights_keep_their_names_and_are_shared_with_the_module() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    program = capture_module(module, (X,))
    assert set(program.weights) <= {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert program.weight_bytes == (16 + 4 + 4) * 4, "a tied weight counts once"
    program.as_module()(X)[0].sum().backward()
    assert module[0].weight.grad is not None


def test_the_mode_of_the_module_is_restored() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9)).train()
    program = capture_module(module, (X,))
    assert module.training
    assert torch.equal(reference.run(program, (X,))[0], module[0](X)), "captured in evaluation mode"


def test_parts_keep_their_own_mode() -> None:
    module = nn.Sequential(nn.Dropout(0.9), nn.Dropout(0.9)).train()
    module[0].eval()
    capture_module(module, (X,))
    assert [part.training for part in module.modules()] == [True, False, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_model_of_any_size_is_captured_on_fake_tensors(dtype: torch.dtype) -> None:
    """256 GiB of weights; in the user's own mode, as full-size models are made."""
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            module, args = nn.Linear(1 << 18, 1 << 18), (torch.randn(1, 1 << 18),)
    finally:
        torch.set_default_dtype(torch.float32)
    program = capture_module(module, args)
    assert program.is_fake
    assert program.weight_bytes == (2**36 + 2**18) * dtype.itemsize
    with pytest.raises(UsageError, match="captured on fake tensors"):
        reference.run(program, program.examples)


def test_a_pt2_file_round_trips(tmp_path: Path) -> None:
    module = nn.Linear(4, 3)
    torch.export.save(torch.export.export(module, (X,)), tmp_path / "net.pt2")
    program = capture_pt2(tmp_path / "net.pt2")
    assert torch.equal(reference.run(program, (X,))[0], module(X))
    assert torch.equal(program.examples[0], X)


def test_a_truncated_pt2_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 3), (X,)), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"cannot read .*net\.pt2") as caught:
        capture_pt2(path)
    assert "\n" not in str(caught.value)


def test_sizes_that_depend_on_values_are_refused_with_the_line() -> None:
    with pytest.raises(PenstockError, match=r"the size of 'index'.*test_torch_export.py:\d+.* depends on values"):
        capture(lambda x: x[x > 0].sum(), X)


def test_dynamic_shapes_are_refused() -> None:
    batch = torch.export.Dim("batch", min=2, max=8)
    exported = torch.export.export(nn.Linear(4, 3), (X,), dynamic_shapes=({0: batch},))
    with pytest.raises(PenstockError, match="dynamic shapes"):
        capture_exported(exported, "net")

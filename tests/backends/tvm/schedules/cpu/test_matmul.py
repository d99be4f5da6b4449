from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.cpu.together import Case, Outcome, kernels_of, legal, run

SIZES = [(1, 64, 64), (3, 17, 5), (77, 33, 77), (28, 128, 129), (1, 7, 1), (300, 64, 96)]
"""Rows, depth, columns: single rows and columns, ragged tiles, ragged panels."""
TILE = 'T.sblock("tile")'


class ByRows(nn.Module):
    """A product by a constant matrix of [depth, columns], as ONNX has it."""

    def __init__(self, depth: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(depth, columns))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight * 2


class Residual(nn.Module):
    """A linear layer with all that may follow it in its kernel."""

    def __init__(self, depth: int, columns: int) -> None:
        super().__init__()
        self.linear = nn.Linear(depth, columns)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.gelu(self.linear(x)) + y


def cases() -> dict[str, Case]:
    torch.manual_seed(0)
    made: dict[str, Case] = {}
    for m, k, n in SIZES:
        x, w = torch.randn(m, k), torch.randn(k, n)
        made[f"linear {m} {k} {n}"] = nn.Linear(k, n), (x,)
        made[f"constant rows {m} {k} {n}"] = ByRows(k, n), (x,)
        made[f"computed columns {m} {k} {n}"] = Function(nn.functional.linear), (x, w.t().contiguous())
        made[f"computed rows {m} {k} {n}"] = Function(torch.matmul), (x, w)
    for left, right in [((3, 4, 50, 20), (3, 4, 20, 33)), ((50, 20), (4, 20, 33)), ((2, 1, 5, 20), (2, 3, 20, 33))]:
        made[f"batched {left} {right}"] = Function(torch.matmul), (torch.randn(left), torch.randn(right))
    made["epilogue"] = Residual(24, 40), (torch.randn(2, 3, 30, 24), torch.randn(2, 3, 30, 40))
    made["half"] = nn.Linear(64, 100).half(), (torch.randn(2, 30, 64).half(),)
    return made


NAMES = list(cases())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(cases(), tmp_path_factory.mktemp("matmul"))


@pytest.mark.parametrize("name", NAMES)
def test_equals_eager(name: str, outcome: Outcome) -> None:
    assert outcome.error(name) < (2e-2 if name == "half" else 1e-5)


def test_one_kernel_with_everything_that_follows() -> None:
    (source,) = kernels_of(Residual(32, 64), torch.randn(40, 32), torch.randn(40, 64))
    assert TILE in source
    assert "T.erf" in source


def test_double_precision_and_integers_are_left_to_others() -> None:
    for dtype in (torch.float64, torch.int64):
        left = torch.ones(8, 8, dtype=dtype)
        assert not any(TILE in source for source in kernels_of(Function(torch.matmul), left, left.clone()))


def test_little_work_wakes_no_thread() -> None:
    (small,) = kernels_of(nn.Linear(16, 16), torch.randn(4, 16))
    (large,) = kernels_of(nn.Linear(256, 256), torch.randn(256, 256))
    assert "T.parallel" not in small
    assert "T.parallel" in large


@pytest.mark.parametrize("columns", [10, 32, 50])
def test_a_packed_weight_takes_the_place_of_the_weight(columns: int) -> None:
    layer = nn.Linear(12, columns)
    compiled = compile_program(legal(layer, torch.randn(3, 12)), find_target("llvm"))
    (body,) = compiled.bodies.values()
    weights = [storage.weight for storage in body.storages if storage.space == "weight"]
    (packed,) = (name for name in weights if name.startswith("weight"))
    assert packed not in ("weight",)
    assert sorted(compiled.constants[packed].tolist()) == sorted(layer.weight.flatten().tolist())  # not a byte more


class Tied(nn.Module):
    """An embedding that is the last layer's weight too, and is summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        table = self.embedding.weight
        return nn.functional.linear(self.embedding(tokens), table) + (table * tokens.sum()).sum(1)


def test_a_weight_that_is_read_otherwise_too_stays() -> None:
    compiled = compile_program(legal(Tied(), torch.tensor([1, 2, 3])), find_target("llvm"))
    (body,) = compiled.bodies.values()
    weights = {storage.weight for storage in body.storages if storage.space == "weight"}
    assert "embedding.weight" in weights
    assert any(name.startswith("embedding.weight.panels") for name in weights)


@pytest.mark.parametrize("target", ["linux-arm64-cpu", "ios-cpu", "android-cpu"])
def test_phones_have_narrower_panels(target: str) -> None:
    program = legal(nn.Linear(12, 40), torch.randn(3, 12))
    from penstock.backends.tvm.lower import lower
    from penstock.backends.tvm.target import tvm_target

    with tvm_target(find_target(target)):
        assert list(lower(program).packed) == ["weight.panels8"]

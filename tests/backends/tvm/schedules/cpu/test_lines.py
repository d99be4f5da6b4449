from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.cpu.together import Case, Outcome, kernels_of, run

SUMS = 'T.sblock("sums")'


def cases() -> dict[str, Case]:
    torch.manual_seed(0)
    made: dict[str, Case] = {
        f"layer norm {shape}": (nn.LayerNorm(shape[-1]), (torch.randn(shape),))
        for shape in [(3, 7, 64), (3, 7, 10), (77,), (2, 1), (5, 333)]
    }
    functions = {
        "softmax": (lambda x: x.softmax(-1), (5, 33)),
        "softmax of a middle dimension": (lambda x: x.softmax(1), (5, 33, 4)),
        "log softmax": (lambda x: x.log_softmax(-1), (5, 40)),
        "sum of everything": (lambda x: x.sum(), (5, 70)),
        "mean over space": (lambda x: x.mean((2, 3)), (5, 3, 7, 7)),
        "sum of a middle dimension": (lambda x: x.sum(1), (5, 33, 4)),
        "largest": (lambda x: x.amax(-1), (5, 3, 19)),
        "product": (lambda x: x.prod(-1), (5, 9)),
        "variance": (lambda x: x.var(-1), (5, 70)),
        "mean and back": (lambda x: x.mean(1, keepdim=True) + x, (4, 8, 8)),
        "unit length": (lambda x: x / x.norm(dim=-1, keepdim=True), (8, 24)),
        "root mean square norm": (lambda x: nn.functional.rms_norm(x, (40,)), (5, 40)),
    }
    for name, (function, shape) in functions.items():
        made[name] = Function(function), (torch.randn(shape),)
    made["group norm"] = nn.Sequential(nn.GroupNorm(4, 16), nn.SiLU()), (torch.randn(2, 16, 6, 6),)
    made["half"] = nn.LayerNorm(64).half(), (torch.randn(3, 7, 64).half(),)
    return made


NAMES = list(cases())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(cases(), tmp_path_factory.mktemp("lines"))


@pytest.mark.parametrize("name", NAMES)
def test_equals_eager(name: str, outcome: Outcome) -> None:
    assert outcome.error(name) < (2e-2 if name == "half" else 1e-5)


def test_a_norm_is_one_kernel() -> None:
    (source,) = kernels_of(nn.LayerNorm(64), torch.randn(3, 7, 64))
    assert source.count(SUMS) == 2
    assert "T.vectorized" in source


def test_a_softmax_is_one_kernel() -> None:
    (source,) = kernels_of(Function(lambda x: x.softmax(-1)), torch.randn(8, 100))
    assert source.count(SUMS) == 2


def test_what_lies_apart_is_left_to_others() -> None:
    (source,) = kernels_of(Function(lambda x: x.sum(1)), torch.randn(4, 33, 8))
    assert SUMS not in source

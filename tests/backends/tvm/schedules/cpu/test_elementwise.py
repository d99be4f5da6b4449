from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.cpu.together import Case, Outcome, kernels_of, run


def cases() -> dict[str, Case]:
    torch.manual_seed(0)
    functions = {
        "one long run": (lambda x: x.exp() + 1, [(7, 33, 5)]),
        "a single number": (lambda x: x * 2, [(1,)]),
        "a channel's number": (lambda x, y: x * y[:, None, None] + 1, [(2, 6, 5, 7), (6,)]),
        "broadcast rows": (lambda x, y: x + y, [(3, 20, 33), (33,)]),
        "transposition": (lambda x: x.transpose(1, 2) + 1, [(3, 20, 30)]),
        "join": (lambda x, y: torch.cat([x, y], 1) * 2, [(2, 3, 5), (2, 4, 5)]),
        "padding": (lambda x: nn.functional.pad(x, (1, 2, 3, 4)), [(2, 3, 5, 6)]),
        "every second": (lambda x: x[:, 1:, ::2] * 2, [(3, 5, 9)]),
        "upsampling": (lambda x: nn.functional.interpolate(x, scale_factor=2.0), [(1, 3, 5, 6)]),
        "gate": (lambda x: x.chunk(2, -1)[0] * nn.functional.gelu(x.chunk(2, -1)[1]), [(4, 9, 34)]),
        "functions of the C library": (lambda x: x.sinh() + x.tan(), [(5, 21)]),
    }
    return {
        name: (Function(function), tuple(torch.randn(shape) for shape in shapes))
        for name, (function, shapes) in functions.items()
    }


NAMES = list(cases())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(cases(), tmp_path_factory.mktemp("elementwise"))


@pytest.mark.parametrize("name", NAMES)
def test_equals_eager(name: str, outcome: Outcome) -> None:
    assert outcome.error(name) < 1e-5


def test_an_image_of_a_channel_is_one_run() -> None:
    """6 × 6 positions are two vectors of 16 and one of 4, whatever the rows."""
    (source,) = kernels_of(Function(lambda x, y: x * y[:, None, None]), torch.randn(2, 3, 6, 6), torch.randn(3))
    assert "T.vectorized(T.int64(4))" in source


def test_the_c_library_knows_no_vectors() -> None:
    (source,) = kernels_of(Function(torch.sinh), torch.randn(64))
    assert "T.vectorized" not in source


def test_other_positions_for_the_same_elements_take_no_kernel() -> None:
    assert len(kernels_of(Function(lambda x: (x + 1).view(4, 12).relu()), torch.randn(8, 6))) == 1
    assert len(kernels_of(Function(lambda x, w: (x @ w).view(6, 8) @ w), torch.randn(6, 8), torch.randn(8, 8))) == 2


def test_what_is_dear_and_read_again_is_computed_once() -> None:
    kernels = kernels_of(Function(lambda x, y: x * y.exp()[:, None]), torch.randn(8, 64), torch.randn(8))
    assert len(kernels) == 2

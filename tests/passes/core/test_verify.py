from __future__ import annotations

import pytest
import torch

from penstock.passes.core.errors import VerificationError
from penstock.passes.core.verify import compare

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "actual", "ok"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1000.0, 0.0], [1000.05, 0.0], True),
        ([NAN, 1.0], [NAN, 1.0], True),
        ([NAN, 1.0], [0.0, 1.0], False),
        ([1.0, 1.0], [NAN, 1.0], False),
        ([INF, 1.0], [INF, 1.0], True),
        ([INF, 1.0], [-INF, 1.0], False),
        ([1.0, 1.0], [INF, 1.0], False),
        ([], [], True),
    ],
)
def test_floats(expected: list[float], actual: list[float], ok: bool) -> None:
    assert compare("x", torch.tensor(expected), torch.tensor(actual)).ok is ok


def test_integers_and_booleans_must_be_equal() -> None:
    assert compare("x", torch.tensor([1, 2]), torch.tensor([1, 2])).ok
    assert not compare("x", torch.tensor([1, 2]), torch.tensor([1, 3])).ok
    assert not compare("x", torch.tensor([True]), torch.tensor([False])).ok


def test_the_coarser_dtype_sets_the_tolerance() -> None:
    exact = torch.tensor([1.0])
    assert not compare("x", exact, torch.tensor([1.01])).ok
    assert compare("x", exact, torch.tensor([1.01], dtype=torch.float16)).ok


def test_shapes_must_agree() -> None:
    with pytest.raises(VerificationError, match=r"x: expected the shape \(1, 2\), got \(2,\)"):
        compare("x", torch.zeros(1, 2), torch.zeros(2))


def test_complex_numbers() -> None:
    assert compare("x", torch.tensor([1 + 2j]), torch.tensor([1 + 2j])).ok
    assert not compare("x", torch.tensor([1 + 2j]), torch.tensor([1 - 2j])).ok

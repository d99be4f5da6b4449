from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, Case, case, numbered

aten = torch.ops.aten
X = torch.ones(2, 3)

CASES = numbered(
    [
        case(aten.full.default, [2, 3], 1.5),
        case(aten.full.default, [2], True),
        case(aten.full.default, [], 7),
        case(aten.full.default, [3], -float("inf"), dtype=torch.float16),
        case(aten.full_like.default, X, 4),
        case(aten.full_like.default, X, 4, dtype=torch.int64),
        case(aten.new_full.default, X, [4], 2.5),
        case(aten.zeros.default, [2, 2]),
        case(aten.ones.default, [3], dtype=torch.bool),
        case(aten.zeros_like.default, X),
        case(aten.ones_like.default, X, dtype=torch.int32),
        case(aten.new_zeros.default, X, [2]),
        case(aten.new_ones.default, X, [2, 1]),
        case(aten.scalar_tensor.default, 3.25),
        case(aten.scalar_tensor.default, 3, dtype=torch.int64),
        case(aten.arange.default, 5),
        case(aten.arange.start, 2, 9),
        case(aten.arange.start_step, 1, 10, 3),
        case(aten.arange.start_step, 7, -5, -4),
        case(aten.arange.start_step, 0.5, 2.0, 0.25),
        case(aten.arange.default, 4, dtype=torch.float16),
        case(aten.eye.default, 3),
        case(aten.eye.m, 2, 4, dtype=torch.int64),
    ]
)


@pytest.mark.parametrize(
    "item",
    [
        case(aten.empty.memory_format, [2, 3]),
        case(aten.empty_permuted.default, [2, 3], [1, 0]),
        case(aten.empty_like.default, X),
        case(aten.new_empty.default, X, [4]),
    ],
)
def test_undefined_contents_are_zero(item: Case) -> None:
    (result,) = Built({"main": item}).run("main")
    assert result.shape == item.expected()[0].shape
    assert not result.any()


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(4, 5, 6)
ROWS = torch.tensor([3, 0, -2])
COLUMNS = torch.tensor([1, 1, -5])

CASES = numbered(
    [
        case(aten.index_put.default, X, [ROWS], X[:3] * 2),
        case(aten.index_put.default, X, [ROWS], torch.tensor(3.0)),
        case(aten.index_put.default, X, [None, ROWS], X[:, :3]),
        case(aten.index_put.default, X, [None, None, torch.tensor(2)], X[..., 0]),
        case(aten.index_put.default, X, [ROWS, COLUMNS], X[:3, 0]),
        case(aten.index_put.default, X, [ROWS, None, COLUMNS], X[:3, :, 0]),
        case(aten.index_put.default, X, [ROWS[:, None], COLUMNS[1:]], X[:3, :2]),
        case(aten.index_put.default, X, [ROWS, COLUMNS, torch.tensor([1, 1, 0])], torch.tensor([1.0, 2.0, 3.0])),
        case(aten.index_put.default, X, [torch.tensor([1, 1, 2])], X[:3]),
        case(aten.index_put.default, X, [torch.tensor([1, 1, 2])], X[:3], True),
        case(aten.index_put.default, X, [None, torch.tensor([1, 1])], X[:, :1], True),
    ]
) | {"half": case(aten.index_put.default, X.half(), [torch.tensor([1, 1, 2])], X[:3].half(), True)}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

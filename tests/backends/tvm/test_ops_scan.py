from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(3, 5, 4)

CASES = numbered(
    [
        *(case(aten.cumsum.default, X, dim) for dim in (0, 1, -1)),
        case(aten.cumsum.default, torch.randn(300), 0),
        case(aten.cumsum.default, torch.arange(6).reshape(2, 3), 1),
        case(aten.cumsum.default, X > 0, 1),
        case(aten.cumsum.default, torch.tensor(3.0), 0),
        case(aten.cumsum.default, torch.arange(6), 0, dtype=torch.float32),
    ]
)
CASES |= {"half": case(aten.cumsum.default, X.half(), 1)}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

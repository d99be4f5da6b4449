from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(3, 9, 4)
TIES = torch.tensor([[2, 1, 2, 0, 1], [5, 5, 5, 5, 5]])
SPECIAL = torch.tensor([1.0, float("nan"), -float("inf"), float("inf"), 0.0, float("nan")])
LINE = torch.randn(300)

CASES = numbered(
    [
        *(case(aten.sort.default, X, dim, descending) for dim in (0, 1, -1) for descending in (False, True)),
        *(
            case(aten.sort.stable, item, stable=True, dim=-1, descending=down)
            for item in (TIES, SPECIAL)
            for down in (False, True)
        ),
        *(case(aten.argsort.stable, TIES, stable=True, dim=-1, descending=down) for down in (False, True)),
        case(aten.argsort.default, X, 1),
        case(aten.sort.stable, TIES > 1, stable=True),
        case(aten.sort.default, torch.tensor(3.0)),
        case(aten.sort.default, LINE),
        case(aten.topk.default, X, 3, 1),
        case(aten.topk.default, X, 2, -1, False),
        case(aten.topk.default, LINE, 40),
    ]
)
CASES |= {"half": case(aten.topk.default, X.half(), 2, 1)}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

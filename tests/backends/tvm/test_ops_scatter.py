from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(4, 5, 6)
PART = torch.randn(4, 2, 6)
AT = torch.stack([torch.randperm(5)[:2] for _ in range(24)]).reshape(4, 6, 2).transpose(1, 2).contiguous()
REPEATED = torch.randint(0, 5, (4, 7, 6))
VALUES = torch.randn(4, 7, 6)

CASES = numbered(
    [
        case(aten.slice_scatter.default, X, PART, 1, 1, 3),
        case(aten.slice_scatter.default, X, X[:, ::2], 1, 0, 9223372036854775807, 2),
        case(aten.slice_scatter.default, X, PART, 1, -2),
        case(aten.slice_scatter.default, X, X * 2, 0),
        case(aten.select_scatter.default, X, X[:, 0], 1, 3),
        case(aten.select_scatter.default, X, X[..., 0], -1, -1),
        case(aten.scatter.src, X, 1, AT, PART),
        case(aten.scatter.src, X, 1, AT[:2, :, :3], PART),
        case(aten.scatter.src, X, 1, REPEATED, VALUES),
        case(aten.scatter.src, torch.tensor(1.0), 0, torch.tensor(0), torch.tensor(5.0)),
        case(aten.scatter.src, X[0, 0], 0, torch.tensor([5, 0]), torch.tensor([9.0, 8.0, 7.0])),
        case(aten.scatter.value, X, -2, AT, 2.5),
        case(aten.scatter.value, X > 0, 1, AT, True),
        case(aten.scatter_add.default, X, 1, REPEATED, VALUES),
        case(aten.scatter_add.default, X, 1, REPEATED[:3], VALUES),
        case(aten.scatter_add.default, X.long(), 1, REPEATED, VALUES.long()),
    ]
) | {"half": case(aten.scatter_add.default, X.half(), 1, REPEATED, VALUES.half())}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

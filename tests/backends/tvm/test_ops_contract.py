from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, halved, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(2, 7, 16)
W = torch.randn(5, 16)
BIAS = torch.randn(5)
A = torch.randn(3, 6, 16)
B = torch.randn(3, 16, 4)

PRODUCTS = [
    case(aten.linear.default, X, W),
    case(aten.linear.default, X, W, BIAS),
    case(aten.linear.default, X[0, 0], W, BIAS),
    case(aten.linear.default, X, W[0]),
    case(aten.matmul.default, A, B),
    case(aten.matmul.default, A[0], B),
    case(aten.matmul.default, A[:, None], B[0]),
    case(aten.matmul.default, A, B[0, :, 0]),
    case(aten.matmul.default, A[0, 0], B),
    case(aten.matmul.default, A[0], B[:1]),
    case(aten.matmul.default, A[0, 0], B[0, :, 0]),
    case(aten.mm.default, A[0], B[0]),
    case(aten.bmm.default, A, B),
    case(aten.addmm.default, BIAS[:4], A[0], B[0]),
    case(aten.addmm.default, torch.randn(6, 4), A[0], B[0], beta=0.5, alpha=2),
    case(aten.addmm.default, BIAS[:4], A[0], B[0], beta=0),
    case(aten.baddbmm.default, torch.randn(3, 1, 4), A, B, beta=2, alpha=0.25),
]
CASES = numbered(PRODUCTS) | {f"half_{name}": halved(item) for name, item in numbered(PRODUCTS).items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

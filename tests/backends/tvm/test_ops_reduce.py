from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(3, 5, 4)
LONG = torch.randn(2, 700)
N = torch.randint(-9, 9, (3, 5))
P = X > 0.9
SCALAR = torch.tensor(2.5)
TIES = torch.tensor([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, -1.0, -1.0]])
DIMS = [([1], False), ([0, -1], True), ([], False), ([-1], True)]

CASES = numbered(
    [
        *(
            case(op, X, dims, keep)
            for op in (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default, aten.amin.default)
            for dims, keep in DIMS
        ),
        *(case(op.default, X) for op in (aten.sum, aten.mean, aten.prod, aten.max, aten.min, aten.argmax, aten.argmin)),
        *(case(op.default, P) for op in (aten.any, aten.all, aten.sum)),
        *(case(op.default, X) for op in (aten.any, aten.all)),
        *(case(op.dim, item, 1, keep) for op in (aten.any, aten.all) for item in (P, X, N) for keep in (True, False)),
        *(case(op.dims, P, [0, 2]) for op in (aten.any, aten.all)),
        *(case(op, SCALAR, []) for op in (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default)),
        case(aten.sum.dim_IntList, N, [1]),
        case(aten.sum.default, N),
        case(aten.sum.dim_IntList, N, None),
        case(aten.sum.dim_IntList, LONG, [1]),
        case(aten.mean.dim, LONG, [0, 1], True),
        case(aten.mean.dim, N, [0], dtype=torch.float32),
        case(aten.amax.default, N, [0]),
        case(aten.prod.dim_int, X, 1),
        case(aten.prod.dim_int, N, -1, True),
        *(
            case(aten.var.correction, LONG, [1], correction=correction, keepdim=keep)
            for correction, keep in ((None, False), (0, True), (1, False), (2, True))
        ),
        case(aten.var.correction, X + 1000, [0, 2]),
        case(aten.var.correction, X),
        *(
            case(op.default, item, dim, keep)
            for op in (aten.argmax, aten.argmin)
            for item in (X, N, TIES)
            for dim, keep in ((1, False), (-1, True), (None, False))
        ),
        *(
            case(op.dim, item, dim, keep)
            for op in (aten.max, aten.min)
            for item in (X, TIES)
            for dim, keep in ((1, False), (-1, True))
        ),
    ]
)
HALF = numbered(
    [
        *(
            case(op, (LONG * 8 + 30).half(), [1], True)
            for op in (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default)
        ),
        case(aten.var.correction, (LONG + 5).half(), [1]),
        case(aten.mean.default, LONG.half()),
        case(aten.max.dim, LONG.half(), 1),
        case(aten.sum.dim_IntList, LONG.half(), [1], dtype=torch.float32),
    ]
)
CASES |= {f"half_{name}": item for name, item in HALF.items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

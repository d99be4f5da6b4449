from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
A = torch.linspace(-3, 3.7, 12).reshape(3, 4)
ROW = torch.tensor([1.5, -2.0, 0.5, 3.0])
N = torch.tensor([[-7, 5, 3, -2], [8, -9, 4, 1]])
P = torch.tensor([True, False, True, False])
SCALAR = torch.tensor(0.75)

CASES = numbered(
    [
        case(aten.where.self, P, ROW, A),
        case(aten.where.self, A > 0, A, SCALAR),
        case(aten.where.self, P, ROW, torch.tensor(2)),
        case(aten.where.ScalarOther, P, ROW, 0.0),
        case(aten.where.ScalarSelf, P, 1.0, ROW),
        case(aten.masked_fill.Scalar, A, P, -float("inf")),
        case(aten.masked_fill.Scalar, A, A > 0, 3),
        case(aten.masked_fill.Tensor, A, P, SCALAR),
        case(aten.clamp.default, A, -1.0, 2.0),
        case(aten.clamp.default, A, None, 1),
        case(aten.clamp.default, N, -3, 3),
        case(aten.clamp.default, N, -1.5),
        case(aten.clamp.Tensor, A, ROW - 3, ROW),
        case(aten.clamp.Tensor, A, None, ROW),
        case(aten.clamp_min.default, A, 0.5),
        case(aten.clamp_max.default, A, 0.5),
        *(
            case(aten._to_copy.default, item, dtype=dtype)
            for item in (A, N, P)
            for dtype in (torch.float16, torch.float32, torch.int32, torch.int64, torch.bool)
        ),
    ]
) | {"half": case(aten.masked_fill.Scalar, A.half(), P, -float("inf"))}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

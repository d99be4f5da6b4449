from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
A = torch.linspace(-3, 3.7, 12).reshape(3, 4)
B = torch.linspace(4, -2.5, 12).reshape(3, 4)
ROW = torch.tensor([1.5, -2.0, 0.5, 3.0])
N = torch.tensor([[-7, 5, 3, -2], [8, -9, 4, 1]])
J = torch.tensor([[2, -3, 4, 5], [-3, 2, 7, -1]])
P = torch.tensor([True, False, True, False])
Q = torch.tensor([True, True, False, False])
SCALAR = torch.tensor(0.75)
NAN = torch.tensor([1.0, float("nan")])

TENSORS = [(A, B), (A, ROW), (SCALAR, A), (N, J), (A[:2], J)]
COMPARED = [(A, ROW), (SCALAR, A), (A[:2], J), (N, N), (P, Q), (NAN, NAN)]
ARITHMETIC = ["add", "sub", "mul", "div"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
BITWISE = ["bitwise_and", "bitwise_or", "bitwise_xor"]
SHIFTS = ["__lshift__", "__rshift__", "bitwise_left_shift", "bitwise_right_shift"]
LOGICAL = ["logical_and", "logical_or", "logical_xor"]

CASES = numbered(
    [
        *(case(getattr(aten, name).Tensor, *pair) for name in ARITHMETIC for pair in TENSORS),
        *(case(getattr(aten, name).Scalar, A, 2.5) for name in ARITHMETIC),
        *(case(getattr(aten, name).Tensor, A, B, alpha=3) for name in ("add", "sub", "rsub")),
        *(case(getattr(aten, name).Scalar, N, 4, 3) for name in ("add", "sub", "rsub")),
        case(aten.rsub.Scalar, A, 1.0),
        case(aten.add.Tensor, A, 1),
        case(aten.add.Tensor, P, Q),
        case(aten.mul.Tensor, P, Q),
        case(aten.mul.Tensor, P, ROW),
        case(aten.mul.Tensor, N, 0.5),
        *(
            case(aten.div.Tensor_mode, *pair, rounding_mode=mode)
            for pair in ((A, ROW), (N, J))
            for mode in (None, "floor", "trunc")
        ),
        *(case(aten.div.Scalar_mode, N, 3, rounding_mode=mode) for mode in ("floor", "trunc")),
        *(case(op.Tensor, *pair) for op in (aten.remainder, aten.fmod) for pair in ((A, ROW), (N, J))),
        *(case(op.Scalar, item, 3) for op in (aten.remainder, aten.fmod) for item in (A, N)),
        *(case(op.default, *pair) for op in (aten.maximum, aten.minimum) for pair in ((A, ROW), (N, J), (P, Q))),
        case(aten.atan2.default, A, B),
        *(case(aten.pow.Tensor_Scalar, A, exponent) for exponent in (0, 1, 2, 3, 5, -1, -2)),
        *(case(aten.pow.Tensor_Scalar, A.abs(), exponent) for exponent in (0.5, -0.5, 1.7, -0.3, 20)),
        *(case(aten.pow.Tensor_Scalar, N, exponent) for exponent in (0, 2, 5)),
        case(aten.pow.Tensor_Tensor, A.abs(), B),
        case(aten.pow.Scalar, 2.0, A),
        *(case(getattr(aten, name).Tensor, *pair) for name in COMPARISONS for pair in COMPARED),
        *(case(getattr(aten, name).Scalar, item, value) for name in COMPARISONS for item, value in ((N, 2.5), (A, 0))),
        *(case(getattr(aten, name).Tensor, *pair) for name in BITWISE for pair in ((N, J), (P, Q))),
        *(case(getattr(aten, name).Scalar, N, 5) for name in BITWISE),
        *(case(getattr(aten, name).Tensor, N, J.abs()) for name in SHIFTS),
        *(case(getattr(aten, name).Scalar, N, 2) for name in SHIFTS[:2]),
        *(case(getattr(aten, name).default, *pair) for name in LOGICAL for pair in ((N, J), (P, Q), (A, P))),
    ]
)
HALF = numbered(
    [
        case(aten.add.Tensor, A.half(), B.half(), alpha=0.5),
        case(aten.div.Tensor, A.half(), 3),
        case(aten.pow.Tensor_Scalar, A.half(), 3),
        case(aten.pow.Tensor_Tensor, A.abs().half(), B.half()),
        case(aten.add.Tensor, A.half(), B),
    ]
)
CASES |= {f"half_{name}": item for name, item in HALF.items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

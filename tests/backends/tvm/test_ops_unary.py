from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
X = torch.linspace(-4, 4, 21).reshape(3, 7)
UNIT = torch.linspace(-0.95, 0.95, 21).reshape(3, 7)
POSITIVE = torch.linspace(0.05, 6, 21).reshape(3, 7)
INTEGERS = torch.arange(-3, 4)
BOOLEANS = torch.tensor([True, False])
SPECIAL = torch.tensor([1.0, float("inf"), -float("inf"), float("nan"), 0.0])
HALVES = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4999])

ANYWHERE = (
    "neg abs relu sign exp exp2 expm1 sin cos tan tanh sinh cosh atan asinh erf sigmoid silu floor ceil round trunc"
)
INSIDE_UNIT = "asin acos atanh expm1 log1p"
ABOVE_ZERO = "log log2 log1p sqrt rsqrt reciprocal"

CASES = numbered(
    [
        *(case(getattr(aten, name).default, X) for name in ANYWHERE.split()),
        *(case(getattr(aten, name).default, UNIT) for name in INSIDE_UNIT.split()),
        *(case(getattr(aten, name).default, POSITIVE) for name in ABOVE_ZERO.split()),
        case(aten.acosh.default, POSITIVE + 1),
        case(aten.asinh.default, X * 100),
        case(aten.round.default, HALVES),
        *(
            case(getattr(aten, name).default, INTEGERS)
            for name in ["neg", "abs", "relu", "sign", "exp", "floor", "round", "bitwise_not", "isnan"]
        ),
        *(case(getattr(aten, name).default, SPECIAL) for name in ["isnan", "isinf", "isfinite", "logical_not"]),
        case(aten.isfinite.default, INTEGERS),
        case(aten.logical_not.default, INTEGERS),
        case(aten.logical_not.default, BOOLEANS),
        case(aten.bitwise_not.default, BOOLEANS),
        case(aten.exp.default, torch.tensor(0.5)),
    ]
)
HALF = numbered(
    [case(getattr(aten, name).default, POSITIVE.half()) for name in ["exp", "log", "tanh", "sigmoid", "silu", "rsqrt"]]
)
CASES |= {f"half_{name}": item for name, item in HALF.items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

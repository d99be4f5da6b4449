from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
X = torch.linspace(-4, 4, 21).reshape(3, 7)
UNIT = torch.linspace(-0.95, 0.95, 21).reshape(3, 7)
POSITIVE = torch.linspace(0.05, 6, 21).reshape(3, 7)
HALF = X.half()
INTEGERS = torch.arange(-3, 4)
SPECIAL = torch.tensor([1.0, float("inf"), -float("inf"), float("nan"), 0.0])

CASES = numbered(
    [
        *(case(op.default, X) for op in (aten.neg, aten.abs, aten.relu, aten.sign, aten.exp, aten.exp2, aten.expm1)),
    ]
)
@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)

@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 1e-5)

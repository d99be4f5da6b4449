from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
X = torch.linspace(-6, 6, 24).reshape(4, 6)
LARGE = torch.tensor([-60000.0, -30.0, -11.5, -1.0, 0.0, 1.0, 11.5, 15.0, 30.0, 60000.0])

ACTIVATIONS = [
    lambda x: case(aten.gelu.default, x),
    lambda x: case(aten.gelu.default, x, approximate="tanh"),
    lambda x: case(aten.softplus.default, x),
    lambda x: case(aten.softplus.default, x, 2.0, 5.0),
    lambda x: case(aten.hardswish.default, x),
    lambda x: case(aten.hardsigmoid.default, x),
    lambda x: case(aten.mish.default, x),
    lambda x: case(aten.leaky_relu.default, x),
    lambda x: case(aten.leaky_relu.default, x, 0.2),
    lambda x: case(aten.elu.default, x),
    lambda x: case(aten.elu.default, x, 1.5, 1.1, 0.7),
    lambda x: case(aten.silu.default, x),
]
CASES = numbered([make(X) for make in ACTIVATIONS] + [make(LARGE) for make in ACTIVATIONS])
HALF = numbered([make(X.half()) for make in ACTIVATIONS] + [make(LARGE.half()) for make in ACTIVATIONS])
CASES |= {f"half_{name}": item for name, item in HALF.items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

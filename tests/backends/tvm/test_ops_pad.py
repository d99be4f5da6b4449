from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
X = torch.arange(48, dtype=torch.float32).reshape(2, 3, 2, 4)
CUBE = torch.arange(2 * 3 * 4 * 3, dtype=torch.float32).reshape(2, 3, 4, 3)[None]

CASES = numbered(
    [
        case(aten.constant_pad_nd.default, X, [1, 2]),
        case(aten.constant_pad_nd.default, X, [0, 2, 3, 0], 1.5),
        case(aten.constant_pad_nd.default, X, [-1, 2, 1, -1, 0, 0, 1, 1], -7),
        case(aten.constant_pad_nd.default, X, [0, -2]),
        case(aten.constant_pad_nd.default, X, [0, 0]),
        case(aten.constant_pad_nd.default, X > 5, [1, 1], True),
        case(aten.constant_pad_nd.default, X.long(), [1, 0], 9),
        case(aten.reflection_pad1d.default, X[0], [2, 3]),
        case(aten.reflection_pad2d.default, X, [3, 1, 1, 0]),
        case(aten.reflection_pad3d.default, CUBE, [1, 2, 3, 0, 1, 1]),
        case(aten.replication_pad1d.default, X[0], [4, 1]),
        case(aten.replication_pad2d.default, X, [0, 3, 2, 2]),
        case(aten.replication_pad3d.default, CUBE, [1, 0, 0, 2, 2, 1]),
    ]
)
CASES |= {"half": case(aten.constant_pad_nd.default, X.half(), [1, 1], -65504.0)}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

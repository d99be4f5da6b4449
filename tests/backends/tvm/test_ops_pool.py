from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
LINE = torch.randn(2, 3, 9)
IMAGE = torch.randn(2, 3, 7, 6)
CUBE = torch.randn(1, 2, 3, 4, 5)

CASES = numbered(
    [
        case(aten.max_pool2d.default, IMAGE, [2, 2]),
        case(aten.max_pool2d.default, IMAGE, [3], [2], [1]),
        case(aten.max_pool2d.default, IMAGE, [3, 2], [2, 1], [1, 0], [1, 2], True),
        case(aten.max_pool2d.default, IMAGE[0], [3, 3], [2, 2], [1, 1], [1, 1], True),
        case(aten.avg_pool1d.default, LINE, [3], [2], [1]),
        case(aten.avg_pool1d.default, LINE, [3], [2], [1], True, False),
        case(aten.avg_pool2d.default, IMAGE, [2]),
        case(aten.avg_pool2d.default, IMAGE, [3, 2], [2, 2], [1, 1], True, True),
        case(aten.avg_pool2d.default, IMAGE, [3, 2], [2, 2], [1, 1], True, False),
        case(aten.avg_pool2d.default, IMAGE, [2, 2], [2, 2], [0, 0], False, True, 3),
        case(aten.avg_pool3d.default, CUBE, [2], [1], [1]),
    ]
) | {
    "half_max": case(aten.max_pool2d.default, IMAGE.half(), [2, 2]),
    "half_avg": case(aten.avg_pool2d.default, IMAGE.half(), [3, 3], [1, 1], [1, 1]),
}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, halved, numbered

aten = torch.ops.aten
torch.manual_seed(0)
LINE = torch.randn(2, 4, 9)
IMAGE = torch.randn(2, 4, 7, 6)
CUBE = torch.randn(1, 4, 3, 5, 6)
BIAS = torch.randn(6)

CONVOLUTIONS = [
    case(aten.conv1d.default, LINE, torch.randn(6, 4, 3), BIAS),
    case(aten.conv1d.default, LINE, torch.randn(6, 2, 3), None, [2], [1], [2], 2),
    case(aten.conv1d.default, LINE, torch.randn(4, 1, 4), None, [1], [3], [1], 4),
    case(aten.conv2d.default, IMAGE, torch.randn(6, 4, 3, 3), BIAS, [1, 1], [1, 1]),
    case(aten.conv2d.default, IMAGE, torch.randn(6, 4, 3, 2), BIAS, [2, 1], [0, 1], [1, 2]),
    case(aten.conv2d.default, IMAGE, torch.randn(6, 4, 1, 1), None, [2]),
    case(aten.conv2d.default, IMAGE, torch.randn(8, 1, 3, 3), None, [1, 1], [1, 1], [1, 1], 4),
    case(aten.conv2d.default, IMAGE, torch.randn(6, 2, 3, 3), BIAS, [1, 1], [1, 1], [1, 1], 2),
    case(aten.conv2d.default, IMAGE[0], torch.randn(6, 4, 3, 3), BIAS, [1, 1], [1, 1]),
    case(aten.conv3d.default, CUBE, torch.randn(6, 4, 3, 1, 1), BIAS, [1, 1, 1], [1, 0, 0]),
    case(aten.conv3d.default, CUBE, torch.randn(6, 2, 2, 3, 3), BIAS, [1, 2, 2], [1, 1, 1], [1, 1, 1], 2),
]
CASES = numbered(CONVOLUTIONS) | {f"half_{name}": halved(item) for name, item in numbered(CONVOLUTIONS).items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

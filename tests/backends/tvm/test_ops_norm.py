from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, halved, numbered

aten = torch.ops.aten
torch.manual_seed(0)
X = torch.randn(2, 3, 40) * 3 + 1
IMAGE = torch.randn(2, 8, 6, 5) * 2 - 1
LARGE = torch.randn(1, 4, 96, 64) + 8
ODD = torch.randn(1, 2, 4099)
W, B = torch.randn(40), torch.randn(40)
CHANNEL_W, CHANNEL_B = torch.randn(8), torch.randn(8)

NORMS = [
    case(aten.layer_norm.default, X, [40]),
    case(aten.layer_norm.default, X, [40], W, B, 1e-6),
    case(aten.layer_norm.default, X, [40], W),
    case(aten.layer_norm.default, X[0, 0], [40], W, B),
    case(aten.layer_norm.default, X, [3, 40], W.expand(3, 40).contiguous(), None),
    case(aten.group_norm.default, IMAGE, 4),
    case(aten.group_norm.default, IMAGE, 4, CHANNEL_W, CHANNEL_B, 1e-6),
    case(aten.group_norm.default, IMAGE, 8, CHANNEL_W),
    case(aten.group_norm.default, IMAGE[..., 0], 1, None, CHANNEL_B),
    case(aten.group_norm.default, IMAGE[:, :, 0, 0], 2),
    case(aten.group_norm.default, LARGE, 2, CHANNEL_W[:4], CHANNEL_B[:4]),
    case(aten.group_norm.default, ODD, 1),
    case(aten.softmax.int, X, -1),
    case(aten.softmax.int, X * 40, 1),
    case(aten.softmax.int, torch.tensor(3.0), 0),
    case(aten.softmax.int, X[0, 0], 0),
    case(aten._softmax.default, X, 2, False),
    case(aten.log_softmax.int, X, -1),
    case(aten._log_softmax.default, X, 0, False),
]
CASES = numbered(NORMS) | {f"half_{name}": halved(item) for name, item in numbered(NORMS).items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

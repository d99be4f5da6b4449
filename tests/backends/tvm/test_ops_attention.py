from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, halved, numbered

aten = torch.ops.aten
torch.manual_seed(0)
Q = torch.randn(2, 4, 7, 16)
K = torch.randn(2, 4, 9, 16)
V = torch.randn(2, 4, 9, 8)
BIAS = torch.randn(2, 1, 7, 9)
MASK = torch.rand(7, 9) > 0.4
MASK[:, 0] = True
sdpa = aten.scaled_dot_product_attention.default

ATTENTIONS = [
    case(sdpa, Q, K, V),
    case(sdpa, Q, K, V, BIAS),
    case(sdpa, Q, K, V, MASK),
    case(sdpa, Q, K, V, MASK[None, None, 0:1]),
    case(sdpa, Q, Q, Q, None, 0.0, True),
    case(sdpa, Q, K, V, None, 0.0, False, scale=0.5),
    case(sdpa, Q, K[:, :2], V[:, :2], None, 0.0, False, enable_gqa=True),
    case(sdpa, Q[0], K[0], V[0]),
    case(sdpa, Q[0], K[0], V[0], BIAS[0]),
    case(sdpa, Q[0], K[0], V[0], BIAS.expand(2, 4, 7, 9)[1]),
    case(sdpa, Q[0, 0], K[0, 0], V[0, 0], MASK),
    case(sdpa, Q[None].expand(3, 2, 4, 7, 16), K[None].expand(3, 2, 4, 9, 16), V[None].expand(3, 2, 4, 9, 8), BIAS),
]
CASES = numbered(ATTENTIONS) | {f"half_{name}": halved(item) for name, item in numbered(ATTENTIONS).items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)

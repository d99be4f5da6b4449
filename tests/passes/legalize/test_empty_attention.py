from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from penstock.passes.legalize.empty_attention import EmptyAttentionToZeros


@pytest.mark.parametrize(("keys", "operators"), [(0, ["full"]), (1, ["scaled_dot_product_attention"])])
def test_only_attention_over_no_keys_is_zeros(run_pass, op_names, keys, operators):
    key = torch.randn(1, 2, keys, 8)
    _, after = run_pass(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        (torch.randn(1, 2, 4, 8), key, key),
        EmptyAttentionToZeros(),
    )
    assert op_names(after) == operators

from __future__ import annotations

import torch
from torch.nn import functional as F

from penstock.passes.legalize.empty_attention import EmptyAttentionToZeros


def test_no_keys_give_zeros(run_pass):
    nothing = torch.randn(1, 2, 0, 8)
    _, after = run_pass(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        (torch.randn(1, 2, 4, 8), nothing, nothing),
        EmptyAttentionToZeros(),
    )
    (full,) = [node for node in after.graphs["main"].graph.nodes if node.op == "call_function"]
    assert full.target is torch.ops.aten.full.default


def test_one_key_is_attended_to(run_pass):
    one = torch.randn(1, 2, 1, 8)
    before, after = run_pass(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        (torch.randn(1, 2, 4, 8), one, one),
        EmptyAttentionToZeros(),
    )
    assert after is before

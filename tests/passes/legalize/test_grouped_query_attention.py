from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.legalize.grouped_query_attention import GroupedQueryAttention


def test_keys_and_values_are_repeated(run_pass, assert_listing):
    def model(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    args = (torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8))
    _, after = run_pass(model, args, GroupedQueryAttention())
    name = "scaled_dot_product_attention"
    assert_listing(
        after,
        f"""graph main
        in   q                                                      f32[1, 4, 6, 8]
        in   k                                                      f32[1, 2, 6, 8]
        in   v                                                      f32[1, 2, 6, 8]
        {name}_unsqueeze = unsqueeze(k, 2)                          f32[1, 2, 1, 6, 8]
        {name}_expand = expand({name}_unsqueeze, [1, 2, 2, 6, 8])   f32[1, 2, 2, 6, 8]
        {name}_reshape = reshape({name}_expand, [1, 4, 6, 8])       f32[1, 4, 6, 8]
        {name}_unsqueeze_1 = unsqueeze(v, 2)                        f32[1, 2, 1, 6, 8]
        {name}_expand_1 = expand({name}_unsqueeze_1, [1, 2, 2, 6, 8])   f32[1, 2, 2, 6, 8]
        {name}_reshape_1 = reshape({name}_expand_1, [1, 4, 6, 8])   f32[1, 4, 6, 8]
        {name} = {name}(q, {name}_reshape, {name}_reshape_1, None, 0.0, True)   f32[1, 4, 6, 8]
        return ({name})
        """,
    )


def test_one_head_for_all_queries(run_pass):
    def model(q, k):
        return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    run_pass(model, (torch.randn(2, 4, 3, 8), torch.randn(2, 1, 5, 8)), GroupedQueryAttention())


def test_equal_head_counts_stay(run_pass):
    before, after = run_pass(
        lambda q: F.scaled_dot_product_attention(q, q, q), (torch.randn(1, 4, 6, 8),), GroupedQueryAttention()
    )
    assert after is before

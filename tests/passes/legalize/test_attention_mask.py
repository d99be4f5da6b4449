from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.legalize.attention_mask import BooleanAttentionMask


def attend(q, mask):
    return F.scaled_dot_product_attention(q, q, q, attn_mask=mask, scale=0.3)


def test_a_boolean_mask_becomes_zero_and_minus_infinity(run_pass, assert_listing):
    _, after = run_pass(attend, (torch.randn(1, 2, 4, 8), torch.ones(4, 4).bool().tril()), BooleanAttentionMask())
    name = "scaled_dot_product_attention"
    assert_listing(
        after,
        f"""graph main
        in   q                                                          f32[1, 2, 4, 8]
        in   mask                                                       bool[4, 4]
        {name}_scalar_tensor = scalar_tensor(0.0, dtype=float32)        f32[]
        {name}_scalar_tensor_1 = scalar_tensor(-inf, dtype=float32)     f32[]
        {name}_where = where.self(mask, {name}_scalar_tensor, {name}_scalar_tensor_1)   f32[4, 4]
        {name} = {name}(q, q, q, {name}_where, scale=0.3)               f32[1, 2, 4, 8]
        return ({name})
        """,
    )


def test_a_query_that_sees_nothing_yields_zeros_in_both_forms(run_pass):
    mask = torch.ones(4, 4).bool()
    mask[1] = False
    run_pass(attend, (torch.randn(1, 2, 4, 8), mask), BooleanAttentionMask())


def test_the_mask_takes_the_dtype_of_the_query(run_pass):
    q = torch.randn(1, 2, 4, 8, dtype=torch.float16)
    _, after = run_pass(attend, (q, torch.ones(4, 4).bool().tril()), BooleanAttentionMask())
    (attention,) = (node for node in after.graphs["main"].graph.nodes if node.name == "scaled_dot_product_attention")
    assert attention.args[3].meta["val"].dtype == torch.float16


def test_float_masks_and_none_stay(run_pass):
    before, after = run_pass(attend, (torch.randn(1, 2, 4, 8), torch.randn(4, 4)), BooleanAttentionMask())
    assert after is before
    before, after = run_pass(lambda q: attend(q, None), (torch.randn(1, 2, 4, 8),), BooleanAttentionMask())
    assert after is before

from __future__ import annotations

import torch

from penstock.passes.legalize.widen_bool_cumsum import WidenBoolCumsum


def test_booleans_are_cast_before_they_are_summed(run_pass, assert_listing):
    def model(mask):
        return mask.cumsum(-1), mask.sum(), mask.prod(1)

    _, after = run_pass(model, (torch.rand(2, 5) > 0.5,), WidenBoolCumsum())
    assert_listing(
        after,
        """graph main
        in   mask                                       bool[2, 5]
        cumsum_to_copy = _to_copy(mask, dtype=int64)    i64[2, 5]
        cumsum = cumsum(cumsum_to_copy, -1)             i64[2, 5]
        sum_1_to_copy = _to_copy(mask, dtype=int64)     i64[2, 5]
        sum_1 = sum.dim_IntList(sum_1_to_copy, [])      i64[]
        prod_to_copy = _to_copy(mask, dtype=int64)      i64[2, 5]
        prod = prod.dim_int(prod_to_copy, 1)            i64[2]
        return (cumsum, sum_1, prod)
        """,
    )


def test_a_named_dtype_is_the_one_that_is_cast_to(run_pass, assert_listing):
    _, after = run_pass(lambda mask: mask.cumsum(0, dtype=torch.float32), (torch.rand(5) > 0.5,), WidenBoolCumsum())
    assert_listing(
        after,
        """graph main
        in   mask                                               bool[5]
        cumsum_to_copy = _to_copy(mask, dtype=float32)          f32[5]
        cumsum = cumsum(cumsum_to_copy, 0, dtype=float32)       f32[5]
        return (cumsum)
        """,
    )


def test_numbers_stay(run_pass):
    before, after = run_pass(lambda x: (x.cumsum(0), x.sum()), (torch.randn(3),), WidenBoolCumsum())
    assert after is before

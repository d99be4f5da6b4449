from __future__ import annotations

import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.masked_scatter import MaskedScatterToGather

MASK = torch.tensor([[True, False, False, True, False]])


def scatter(x, mask, source):
    return x.masked_scatter(mask, source)


def test_rows_under_a_mask_of_tokens(run_pass, assert_listing):
    def model(x, mask, source):
        return scatter(x, mask.unsqueeze(-1).expand_as(x), source)

    _, after = run_pass(model, (torch.randn(1, 5, 8), MASK, torch.randn(2, 8)), MaskedScatterToGather())
    assert_listing(
        after,
        """graph main
        in   x                                                                                         f32[1, 5, 8]
        in   mask                                                                                      bool[1, 5]
        in   source                                                                                    f32[2, 8]
        unsqueeze = unsqueeze(mask, -1)                                                                bool[1, 5, 1]
        masked_scatter_reshape = reshape(unsqueeze, [5])                                               bool[5]
        masked_scatter_to_copy = _to_copy(masked_scatter_reshape, dtype=int64)                         i64[5]
        masked_scatter_cumsum = cumsum(masked_scatter_to_copy, 0)                                      i64[5]
        masked_scatter_sub = sub(masked_scatter_cumsum, 1)                                             i64[5]
        masked_scatter_clamp = clamp(masked_scatter_sub, 0, 1)                                         i64[5]
        masked_scatter_reshape_1 = reshape(source, [2, 8])                                             f32[2, 8]
        masked_scatter_index_select = index_select(masked_scatter_reshape_1, 0, masked_scatter_clamp)  f32[5, 8]
        masked_scatter_reshape_2 = reshape(masked_scatter_index_select, [1, 5, 8])                     f32[1, 5, 8]
        masked_scatter = where.self(unsqueeze, masked_scatter_reshape_2, x)                            f32[1, 5, 8]
        return (masked_scatter)
        """,
    )


def test_elements_under_a_mask_of_elements(run_pass, op_names):
    x = torch.randn(3, 5)
    for source in (torch.randn(15), torch.randn(4, 7)):
        _, after = run_pass(scatter, (x, x > 0, source), MaskedScatterToGather())
        assert "masked_scatter" not in op_names(after)


def test_masks_that_are_stretched(run_pass):
    x = torch.randn(2, 5, 4)
    run_pass(scatter, (x, MASK.unsqueeze(-1), torch.randn(4, 4)), MaskedScatterToGather())  # in front, and behind
    run_pass(scatter, (x, MASK.unsqueeze(-1), torch.randn(17)), MaskedScatterToGather())  # no whole rows
    run_pass(scatter, (x, torch.tensor([True, False, True, False]), torch.randn(20)), MaskedScatterToGather())


def test_refusals(run_pass):
    def model(x, mask, source):
        return scatter(x, mask, source), scatter(x[0, :0], mask[0, :0], source[:0])

    context = Context()
    args = (torch.randn(1, 5), torch.ones(2, 5).bool(), torch.randn(10))
    before, after = run_pass(model, args, MaskedScatterToGather(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == [
        "the mask (2, 5) stretches the tensor (1, 5)",
        "the source has no elements",
    ]

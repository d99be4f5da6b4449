from __future__ import annotations

import torch

from penstock.passes.legalize.repeat_interleave import RepeatInterleave


def test_each_element_is_expanded_in_place(run_pass, assert_listing):
    _, after = run_pass(lambda x: x.repeat_interleave(3, 1), (torch.randn(2, 4, 5),), RepeatInterleave())
    assert_listing(
        after,
        """graph main
        in   x                                                                          f32[2, 4, 5]
        repeat_interleave_unsqueeze = unsqueeze(x, 2)                                   f32[2, 4, 1, 5]
        repeat_interleave_expand = expand(repeat_interleave_unsqueeze, [2, 4, 3, 5])    f32[2, 4, 3, 5]
        repeat_interleave = reshape(repeat_interleave_expand, [2, 12, 5])               f32[2, 12, 5]
        return (repeat_interleave)
        """,
    )


def test_the_last_dimension_all_dimensions_and_none(run_pass):
    def model(x, scalar):
        return x.repeat_interleave(2, -1), x.repeat_interleave(2), scalar.repeat_interleave(3)

    run_pass(model, (torch.randn(2, 3), torch.tensor(1.5)), RepeatInterleave())


def test_a_graph_without_one_stays(run_pass):
    before, after = run_pass(lambda x: x.repeat(2, 1), (torch.randn(2, 3),), RepeatInterleave())
    assert after is before

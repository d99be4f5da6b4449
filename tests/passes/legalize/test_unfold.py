from __future__ import annotations

import torch

from penstock.passes.legalize.unfold import UnfoldToIndexSelect


def test_overlapping_windows_are_gathered(run_pass, assert_listing):
    _, after = run_pass(lambda x: x.unfold(1, 3, 2), (torch.randn(2, 7),), UnfoldToIndexSelect())
    assert_listing(
        after,
        """graph main
        in   x                                                              f32[2, 7]
        w    constant.unfold.places                                         i64[9]
        unfold_index_select = index_select(x, 1, constant.unfold.places)    f32[2, 9]
        unfold = reshape(unfold_index_select, [2, 3, 3])                    f32[2, 3, 3]
        return (unfold)
        """,
    )
    assert after.weights["constant.unfold.places"].tolist() == [0, 1, 2, 2, 3, 4, 4, 5, 6]


def test_windows_side_by_side_need_no_gather(run_pass, op_names):
    _, after = run_pass(lambda x: x.unfold(1, 3, 3), (torch.randn(2, 8),), UnfoldToIndexSelect())
    assert op_names(after) == ["slice", "reshape"]


def test_along_the_first_dimension(run_pass):
    def model(x):
        return [x.unfold(-3, size, step) for size, step in ((1, 1), (2, 3), (4, 1), (5, 5))]

    run_pass(model, (torch.randn(5, 2, 3),), UnfoldToIndexSelect())


def test_a_graph_without_one_stays(run_pass):
    before, after = run_pass(lambda x: x[:, 1:3], (torch.randn(2, 7),), UnfoldToIndexSelect())
    assert after is before

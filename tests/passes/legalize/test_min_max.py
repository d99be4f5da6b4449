from __future__ import annotations

import torch

from penstock.passes.legalize.min_max import DecomposeMinMax


def test_values_and_places_are_separate_reductions(run_pass, assert_listing):
    def model(x):
        return x.max(1), x.min(0, keepdim=True)[1], x.max(), x.min()

    _, after = run_pass(model, (torch.randn(2, 5),), DecomposeMinMax())
    assert_listing(
        after,
        """graph main
        in   x                              f32[2, 5]
        getitem = amax(x, [1], False)       f32[2]
        getitem_1 = argmax(x, 1, False)     i64[2]
        getitem_3 = argmin(x, 0, True)      i64[1, 5]
        max_2 = amax(x, [], False)          f32[]
        min_2 = amin(x, [], False)          f32[]
        return (getitem, getitem_1, getitem_3, max_2, min_2)
        """,
    )


def test_ties_and_nans_are_found_at_the_same_place(run_pass):
    x = torch.tensor([[1.0, 3.0, 3.0, 0.0], [0.0, float("nan"), 5.0, float("nan")]])
    run_pass(lambda x: (x.max(1), x.min(1)), (x,), DecomposeMinMax(), tolerance=1e-12)


def test_aminmax_along_one_dimension(run_pass, op_names):
    _, after = run_pass(lambda x: torch.ops.aten.aminmax(x, dim=1), (torch.randn(2, 5),), DecomposeMinMax())
    assert op_names(after) == ["amin", "amax"]


def test_booleans_are_ranked_as_numbers(run_pass, op_names):
    _, after = run_pass(lambda x: x.max(0), (torch.tensor([[True, False], [True, True]]),), DecomposeMinMax())
    assert op_names(after) == ["amax", "_to_copy", "argmax"]


def test_plain_reductions_stay(run_pass):
    before, after = run_pass(lambda x: x.amax(0), (torch.randn(2, 5),), DecomposeMinMax())
    assert after is before

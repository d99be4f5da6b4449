from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.core.context import Context
from penstock.passes.legalize.max_pool import MaxPoolToMaxPool2d


def test_three_dimensions_are_two_poolings(run_pass, assert_listing):
    _, after = run_pass(lambda x: F.max_pool3d(x, 2), (torch.randn(1, 4, 4, 6, 6),), MaxPoolToMaxPool2d())
    name = "max_pool3d_with_indices"
    assert_listing(
        after,
        f"""graph main
        in   x                                                  f32[1, 4, 4, 6, 6]
        {name}_reshape = reshape(x, [1, -1, 6, 6])              f32[1, 16, 6, 6]
        {name}_max_pool2d = max_pool2d({name}_reshape, [2, 2], [2, 2], [0, 0], [1, 1], False)       f32[1, 16, 3, 3]
        {name}_reshape_1 = reshape({name}_max_pool2d, [1, -1, 4, 9])    f32[1, 4, 4, 9]
        {name}_max_pool2d_1 = max_pool2d({name}_reshape_1, [2, 1], [2, 1], [0, 0], [1, 1], False)   f32[1, 4, 2, 9]
        getitem = reshape({name}_max_pool2d_1, [1, 4, 2, 3, 3]) f32[1, 4, 2, 3, 3]
        return (getitem)
        """,
    )


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_all_options(run_pass, op_names, ceil_mode):
    def model(x):
        return F.max_pool3d(x, (2, 3, 3), (1, 2, 1), (1, 1, 0), (2, 1, 1), ceil_mode=ceil_mode)

    _, after = run_pass(model, (torch.randn(2, 3, 4, 6, 7),), MaxPoolToMaxPool2d())
    assert op_names(after).count("max_pool2d") == 2
    run_pass(model, (torch.randn(3, 4, 6, 7),), MaxPoolToMaxPool2d())


def test_one_dimension_is_a_flat_plane(run_pass, op_names):
    _, after = run_pass(lambda x: F.max_pool1d(x, 3, 2, 1), (torch.randn(2, 4, 9),), MaxPoolToMaxPool2d())
    assert op_names(after) == ["unsqueeze", "max_pool2d", "squeeze.dims"]


def test_places_that_are_read_are_a_reason_to_refuse(run_pass):
    context = Context()
    model, args = lambda x: F.max_pool2d(x, 2, return_indices=True), (torch.randn(1, 2, 4, 4),)
    before, after = run_pass(model, args, MaxPoolToMaxPool2d(), context=context)
    assert after is before
    assert context.declined[0].reason == "the places of the maxima are read"

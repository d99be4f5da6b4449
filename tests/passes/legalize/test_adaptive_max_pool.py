from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.core.context import Context
from penstock.passes.legalize.adaptive_max_pool import AdaptiveMaxPoolToAmax


def test_a_reshape_where_windows_lie_side_by_side_else_a_gather(run_pass, assert_listing):
    _, after = run_pass(lambda x: F.adaptive_max_pool2d(x, (2, 3)), (torch.randn(1, 4, 4, 5),), AdaptiveMaxPoolToAmax())
    name = "adaptive_max_pool2d"
    assert after.weights[f"constant.{name}.places3"].tolist() == [0, 1, 1, 1, 2, 3, 3, 4, 4]
    assert_listing(
        after,
        f"""graph main
        in   x                                                          f32[1, 4, 4, 5]
        {name}_reshape = reshape(x, [1, 4, 2, 2, 5])                    f32[1, 4, 2, 2, 5]
        {name}_amax = amax({name}_reshape, [3])                         f32[1, 4, 2, 5]
        w    constant.{name}.places3                                    i64[9]
        {name}_index_select = index_select({name}_amax, 3, constant.{name}.places3)    f32[1, 4, 2, 9]
        {name}_reshape_1 = reshape({name}_index_select, [1, 4, 2, 3, 3])               f32[1, 4, 2, 3, 3]
        getitem = amax({name}_reshape_1, [4])                           f32[1, 4, 2, 3]
        return (getitem)
        """,
    )


@pytest.mark.parametrize(
    ("function", "shape", "size"),
    [
        (F.adaptive_max_pool1d, (2, 3, 11), 4),
        (F.adaptive_max_pool2d, (3, 7, 13), (7, 5)),
        (F.adaptive_max_pool2d, (2, 3, 4, 3), (1, 5)),
        (F.adaptive_max_pool3d, (1, 2, 5, 6, 7), (2, 3, 4)),
    ],
)
def test_windows_of_any_width(run_pass, op_names, function, shape, size):
    _, after = run_pass(lambda x: function(x, size), (torch.randn(shape),), AdaptiveMaxPoolToAmax())
    assert not any("pool" in name for name in op_names(after))


def test_places_are_refused(run_pass):
    context = Context()
    before, after = run_pass(
        lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True),
        (torch.randn(1, 2, 4, 4),),
        AdaptiveMaxPoolToAmax(),
        context=context,
    )
    assert after is before
    assert [declined.reason for declined in context.declined] == ["the places of the maxima are read"]

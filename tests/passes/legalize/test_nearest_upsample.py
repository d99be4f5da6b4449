from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.legalize.nearest_upsample import NearestUpsample


def test_repetition_and_selection_axis_by_axis(run_pass, assert_listing):
    def model(x):
        return F.interpolate(x, scale_factor=(1, 2, 1.5))

    _, after = run_pass(model, (torch.randn(1, 4, 4, 6, 6),), NearestUpsample(), tolerance=1e-12)
    name = "upsample_nearest3d"
    assert_listing(
        after,
        f"""graph main
        in   x                                                          f32[1, 4, 4, 6, 6]
        {name}_unsqueeze = unsqueeze(x, 4)                              f32[1, 4, 4, 6, 1, 6]
        {name}_expand = expand({name}_unsqueeze, [1, 4, 4, 6, 2, 6])    f32[1, 4, 4, 6, 2, 6]
        {name}_reshape = reshape({name}_expand, [1, 4, 4, 12, 6])       f32[1, 4, 4, 12, 6]
        w    constant.{name}.width                                      i64[9]
        {name} = index_select({name}_reshape, 4, constant.{name}.width) f32[1, 4, 4, 12, 9]
        return ({name})
        """,
    )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_three_dimensions_by_factor(run_pass, op_names, mode):
    def model(x):
        scales = ((1, 2, 3), (0.5, 1.3, 2.7), (1, 1, 1))
        return [F.interpolate(x, scale_factor=scale, mode=mode) for scale in scales]

    _, after = run_pass(model, (torch.randn(1, 2, 4, 7, 6),), NearestUpsample(), tolerance=1e-12)
    assert not any(name.endswith("3d.vec") for name in op_names(after))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_one_and_two_dimensions_by_size(run_pass, op_names, mode):
    def model(x):
        return F.interpolate(x, size=(5, 16), mode=mode), F.interpolate(x[0], size=11, mode=mode)

    _, after = run_pass(model, (torch.randn(1, 2, 8, 8),), NearestUpsample(), tolerance=1e-12)
    assert op_names(after).count("index_select") == 2


def test_whole_factors_in_two_dimensions_stay(run_pass):
    before, after = run_pass(lambda x: F.interpolate(x, scale_factor=2), (torch.randn(1, 2, 4, 4),), NearestUpsample())
    assert after is before

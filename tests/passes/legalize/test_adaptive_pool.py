from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.legalize.adaptive_pool import SeparateAdaptivePool3d


def test_planes_then_depth(run_pass, assert_listing):
    def model(x):
        return F.adaptive_avg_pool3d(x, (2, 3, 3))

    _, after = run_pass(model, (torch.randn(1, 4, 4, 6, 6),), SeparateAdaptivePool3d())
    name = "_adaptive_avg_pool3d"
    assert_listing(
        after,
        f"""graph main
        in   x                                              f32[1, 4, 4, 6, 6]
        {name}_reshape = reshape(x, [1, 16, 6, 6])          f32[1, 16, 6, 6]
        {name}_adaptive_avg_pool2d = _adaptive_avg_pool2d({name}_reshape, [3, 3])           f32[1, 16, 3, 3]
        {name}_reshape_1 = reshape({name}_adaptive_avg_pool2d, [1, 4, 4, 9])                f32[1, 4, 4, 9]
        {name}_adaptive_avg_pool2d_1 = _adaptive_avg_pool2d({name}_reshape_1, [2, 9])       f32[1, 4, 2, 9]
        {name} = reshape({name}_adaptive_avg_pool2d_1, [1, 4, 2, 3, 3])                     f32[1, 4, 2, 3, 3]
        return ({name})
        """,
    )


def test_boxes_that_overlap_and_no_batch(run_pass):
    run_pass(lambda x: F.adaptive_avg_pool3d(x, (3, 2, 4)), (torch.randn(2, 3, 5, 7, 6),), SeparateAdaptivePool3d())
    run_pass(lambda x: F.adaptive_avg_pool3d(x, (3, 2, 4)), (torch.randn(3, 5, 7, 6),), SeparateAdaptivePool3d())


def test_two_dimensions_stay(run_pass):
    before, after = run_pass(
        lambda x: F.adaptive_avg_pool2d(x, 3), (torch.randn(1, 2, 5, 5),), SeparateAdaptivePool3d()
    )
    assert after is before

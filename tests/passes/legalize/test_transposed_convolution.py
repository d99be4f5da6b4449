from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.legalize.transposed_convolution import TransposedConvolution

CONVOLUTIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def test_phases_as_channels(run_pass, assert_listing):
    def model(x, w):
        return F.conv_transpose2d(x, w, stride=(1, 2))

    _, after = run_pass(model, (torch.randn(1, 4, 2, 4), torch.randn(4, 3, 3, 2)), TransposedConvolution())
    name = "conv_transpose2d"
    assert_listing(
        after,
        f"""graph main
        in   x                                                                      f32[1, 4, 2, 4]
        in   w                                                                      f32[4, 3, 3, 2]
        {name}_reshape = reshape(w, [1, 4, 3, 3, 1, 1, 2])                          f32[1, 4, 3, 3, 1, 1, 2]
        {name}_permute = permute({name}_reshape, [0, 2, 4, 6, 1, 3, 5])             f32[1, 3, 1, 2, 4, 3, 1]
        {name}_reshape_1 = reshape({name}_permute, [6, 4, 3, 1])                    f32[6, 4, 3, 1]
        {name}_flip = flip({name}_reshape_1, [2, 3])                                f32[6, 4, 3, 1]
        {name}_conv2d = conv2d(x, {name}_flip, None, [1, 1], [2, 0], [1, 1], 1)     f32[1, 6, 4, 4]
        {name}_reshape_2 = reshape({name}_conv2d, [1, 3, 1, 2, 4, 4])               f32[1, 3, 1, 2, 4, 4]
        {name}_permute_1 = permute({name}_reshape_2, [0, 1, 4, 2, 5, 3])            f32[1, 3, 4, 1, 4, 2]
        {name} = reshape({name}_permute_1, [1, 3, 4, 8])                            f32[1, 3, 4, 8]
        return ({name})
        """,
    )


@pytest.mark.parametrize(("rank", "kernel"), [(1, 1), (1, 5), (2, 2), (2, 3)])
@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation", "groups"),
    [
        (1, 0, 0, 1, 1),
        (1, 1, 0, 1, 2),
        (1, 0, 0, 2, 1),
        (2, 0, 0, 1, 2),
        (2, 1, 1, 1, 1),
        (2, 2, 0, 1, 1),
        (3, 1, 2, 1, 2),
        (3, 4, 1, 2, 1),
        (2, 1, 0, 3, 1),
    ],
)
def test_all_options(run_pass, op_names, rank, kernel, stride, padding, output_padding, dilation, groups):
    def model(x, w, b):
        return CONVOLUTIONS[rank](x, w, b, stride, padding, output_padding, groups, dilation)

    x, w = torch.randn(2, 4, *[5] * rank), torch.randn(4, 3, *[kernel] * rank)
    _, after = run_pass(model, (x, w, torch.randn(3 * groups)), TransposedConvolution())
    assert op_names(after).count(f"conv{rank}d") == 1


def test_other_options_per_axis(run_pass, op_names):
    def model(x, w):
        return F.conv_transpose3d(x, w, None, (1, 2, 3), (0, 2, 1), (0, 1, 2), 2, (1, 2, 1))

    _, after = run_pass(model, (torch.randn(2, 4, 3, 4, 3), torch.randn(4, 3, 1, 3, 2)), TransposedConvolution())
    assert op_names(after).count("conv3d") == 1


def test_padding_wider_than_the_kernel_cuts_and_no_batch(run_pass, op_names):
    def model(x, w):
        return F.conv_transpose3d(x, w, stride=2, padding=1)

    _, after = run_pass(model, (torch.randn(4, 3, 4, 5), torch.randn(4, 3, 1, 1, 1)), TransposedConvolution())
    assert op_names(after)[-1] == "squeeze.dim"

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.legalize.transposed_conv3d import TransposedConv3d


def test_zeros_between_elements_and_a_flipped_weight(run_pass, assert_listing):
    def model(x, w):
        return F.conv_transpose3d(x, w, stride=(1, 2, 1))

    _, after = run_pass(model, (torch.randn(1, 4, 2, 4, 2), torch.randn(4, 3, 3, 3, 3)), TransposedConv3d())
    name = "conv_transpose3d"
    assert_listing(
        after,
        f"""graph main
        in   x                                                          f32[1, 4, 2, 4, 2]
        in   w                                                          f32[4, 3, 3, 3, 3]
        {name}_reshape = reshape(w, [1, 4, 3, 3, 3, 3])                 f32[1, 4, 3, 3, 3, 3]
        {name}_transpose = transpose.int({name}_reshape, 1, 2)          f32[1, 3, 4, 3, 3, 3]
        {name}_reshape_1 = reshape({name}_transpose, [3, 4, 3, 3, 3])   f32[3, 4, 3, 3, 3]
        {name}_flip = flip({name}_reshape_1, [2, 3, 4])                 f32[3, 4, 3, 3, 3]
        {name}_unsqueeze = unsqueeze(x, 4)                              f32[1, 4, 2, 4, 1, 2]
        {name}_constant_pad_nd = constant_pad_nd({name}_unsqueeze, [0, 0, 0, 1])    f32[1, 4, 2, 4, 2, 2]
        {name}_reshape_2 = reshape({name}_constant_pad_nd, [1, 4, 2, 8, 2])         f32[1, 4, 2, 8, 2]
        {name}_slice = slice({name}_reshape_2, 3, 0, 7)                             f32[1, 4, 2, 7, 2]
        {name} = conv3d({name}_slice, {name}_flip, None, [1, 1, 1], [2, 2, 2], [1, 1, 1], 1)    f32[1, 3, 4, 9, 4]
        return ({name})
        """,
    )


@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation", "groups"),
    [
        ((1, 2, 3), (0, 0, 0), (0, 0, 0), (1, 1, 1), 1),
        ((1, 2, 3), (0, 2, 1), (0, 1, 2), (1, 2, 1), 2),
        ((2, 2, 2), (0, 2, 1), (0, 0, 0), (1, 2, 1), 1),
        ((2, 2, 2), (0, 0, 0), (1, 1, 1), (1, 1, 1), 2),
        ((1, 1, 1), (0, 1, 1), (0, 0, 0), (1, 1, 1), 2),
    ],
)
def test_all_options(run_pass, op_names, stride, padding, output_padding, dilation, groups):
    def model(x, w, b):
        return F.conv_transpose3d(x, w, b, stride, padding, output_padding, groups, dilation)

    args = (torch.randn(2, 4, 3, 4, 3), torch.randn(4, 3, 1, 3, 2), torch.randn(3 * groups))
    _, after = run_pass(model, args, TransposedConv3d())
    assert op_names(after).count("conv3d") == 1


def test_padding_wider_than_the_kernel_cuts_and_no_batch(run_pass, op_names):
    def model(x, w):
        return F.conv_transpose3d(x, w, stride=2, padding=1)

    _, after = run_pass(model, (torch.randn(4, 3, 4, 5), torch.randn(4, 3, 1, 1, 1)), TransposedConv3d())
    assert op_names(after)[-1] == "squeeze.dim"


def test_two_dimensions_stay(run_pass):
    before, after = run_pass(
        lambda x, w: F.conv_transpose2d(x, w), (torch.randn(1, 2, 4, 4), torch.randn(2, 2, 3, 3)), TransposedConv3d()
    )
    assert after is before

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.legalize.named_convolution import NamedConvolution

aten = torch.ops.aten


def test_a_convolution_padded_by_name(run_pass, assert_listing):
    def model(x, w):
        return F.conv2d(x, w, padding="same")

    _, after = run_pass(model, (torch.randn(2, 4, 8, 8), torch.randn(3, 4, 3, 3)), NamedConvolution())
    assert_listing(
        after,
        """graph main
        in   x                                                          f32[2, 4, 8, 8]
        in   w                                                          f32[3, 4, 3, 3]
        convolution = conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1)     f32[2, 3, 8, 8]
        return (convolution)
        """,
    )


@pytest.mark.parametrize(("rank", "transposed"), [(1, False), (3, False), (1, True), (2, True), (3, True)])
def test_every_rank_with_all_options(run_pass, op_names, rank, transposed):
    def model(x, w, b):
        # The operator itself: torch's functions reach the named forms directly.
        sizes = ([2] * rank, [1] * rank, [2] * rank, transposed, [1 if transposed else 0] * rank, 2)
        return aten.convolution(x, w, b, *sizes)

    weight = torch.randn(4, 3 if transposed else 2, *[3] * rank)
    bias = torch.randn(6 if transposed else 4)
    _, after = run_pass(model, (torch.randn(1, 4, *[7] * rank), weight, bias), NamedConvolution())
    assert op_names(after)[0].startswith(f"conv_transpose{rank}d" if transposed else f"conv{rank}d")


def test_named_forms_stay(run_pass):
    before, after = run_pass(
        lambda x, w: F.conv1d(x, w), (torch.randn(1, 2, 5), torch.randn(3, 2, 3)), NamedConvolution()
    )
    assert after is before

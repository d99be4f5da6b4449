from __future__ import annotations

import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.native_norm import NativeNormToNorm


def test_a_layer_norm_loses_its_statistics(run_pass, assert_listing):
    def model(x, w, b):
        return torch.native_layer_norm(x, [8], w, b, 1e-5)[0]

    _, after = run_pass(model, (torch.randn(2, 8), torch.randn(8), torch.randn(8)), NativeNormToNorm())
    assert_listing(
        after,
        """graph main
        in   x                                      f32[2, 8]
        in   w                                      f32[8]
        in   b                                      f32[8]
        getitem = layer_norm(x, [8], w, b, 1e-05)   f32[2, 8]
        return (getitem)
        """,
    )


def test_a_group_norm_likewise(run_pass, op_names):
    def model(x):
        return torch.native_group_norm(x, None, None, 2, 4, 9, 2, 1e-5)[0]

    _, after = run_pass(model, (torch.randn(2, 4, 3, 3),), NativeNormToNorm())
    assert op_names(after) == ["group_norm"]


def test_statistics_that_are_read_are_a_reason_to_refuse(run_pass):
    context = Context()
    model, args = lambda x: torch.native_layer_norm(x, [8], None, None, 1e-5), (torch.randn(2, 8),)
    before, after = run_pass(model, args, NativeNormToNorm(), context=context)
    assert after is before
    assert context.declined[0].reason == "its mean or deviation is read"

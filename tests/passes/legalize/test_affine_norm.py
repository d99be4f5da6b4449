from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.legalize.affine_norm import AffineGroupNorm


def test_a_group_norm_gets_ones_and_zeros(run_pass, assert_listing):
    _, after = run_pass(lambda x: F.group_norm(x, 2), (torch.randn(1, 4, 8, 8),), AffineGroupNorm())
    assert_listing(
        after,
        """graph main
        in   x                                              f32[1, 4, 8, 8]
        group_norm_full = full([4], 1.0, dtype=float32)     f32[4]
        group_norm_full_1 = full([4], 0.0, dtype=float32)   f32[4]
        group_norm = group_norm(x, 2, group_norm_full, group_norm_full_1, 1e-05, False)     f32[1, 4, 8, 8]
        return (group_norm)
        """,
    )


def test_a_layer_norm_gets_only_the_bias_it_lacks(run_pass, op_names):
    def model(x, weight):
        return F.layer_norm(x, [3, 8], weight)

    _, after = run_pass(model, (torch.randn(2, 3, 8), torch.randn(3, 8)), AffineGroupNorm())
    assert op_names(after) == ["full", "layer_norm"]


def test_the_constants_have_the_dtype_of_the_operand(run_pass):
    _, after = run_pass(lambda x: F.layer_norm(x, [8]), (torch.randn(2, 8, dtype=torch.float16),), AffineGroupNorm())
    dtypes = {node.meta["val"].dtype for node in after.graphs["main"].graph.nodes if node.op == "call_function"}
    assert dtypes == {torch.float16}


def test_an_affine_norm_stays(run_pass):
    def model(x, weight, bias):
        return F.group_norm(x, 2, weight, bias)

    before, after = run_pass(model, (torch.randn(1, 4, 3), torch.randn(4), torch.randn(4)), AffineGroupNorm())
    assert after is before

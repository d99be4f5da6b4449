from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.legalize.rms_norm import DecomposeRmsNorm


def test_the_arithmetic(run_pass, assert_listing):
    def model(x, weight):
        return F.rms_norm(x, [8], weight, 1e-6)

    _, after = run_pass(model, (torch.randn(2, 6, 8), torch.randn(8)), DecomposeRmsNorm())
    assert_listing(
        after,
        """graph main
        in   x                                          f32[2, 6, 8]
        in   weight                                     f32[8]
        rms_norm_pow = pow.Tensor_Scalar(x, 2)          f32[2, 6, 8]
        rms_norm_mean = mean.dim(rms_norm_pow, [2], True)   f32[2, 6, 1]
        rms_norm_add = add(rms_norm_mean, 1e-06)        f32[2, 6, 1]
        rms_norm_rsqrt = rsqrt(rms_norm_add)            f32[2, 6, 1]
        rms_norm_mul = mul(x, rms_norm_rsqrt)           f32[2, 6, 8]
        rms_norm = mul(rms_norm_mul, weight)            f32[2, 6, 8]
        return (rms_norm)
        """,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(run_pass, op_names, dtype):
    def model(x, weight):
        return F.rms_norm(x, [8], weight, 1e-6)

    args = (torch.randn(2, 8, dtype=dtype) * 300, torch.randn(8, dtype=dtype))  # x² overflows float16
    _, after = run_pass(model, args, DecomposeRmsNorm(), tolerance=1e-6)
    assert op_names(after)[0] == op_names(after)[-1] == "_to_copy"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_without_eps_or_weight(run_pass, op_names, dtype):
    # Values near the machine epsilon, so that a wrong default shows.
    x = torch.randn(3, 4, 5, dtype=dtype) * 1e-3
    _, after = run_pass(lambda x: F.rms_norm(x, [4, 5]), (x,), DecomposeRmsNorm(), tolerance=1e-3 * 2e-3)
    assert "rms_norm" not in op_names(after)


def test_a_graph_without_one_stays(run_pass):
    before, after = run_pass(lambda x: F.layer_norm(x, [4]), (torch.randn(2, 4),), DecomposeRmsNorm())
    assert after is before

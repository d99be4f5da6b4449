from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.core.context import Context
from penstock.passes.legalize.batch_norm import AffineBatchNorm


def test_scale_and_shift_per_channel(run_pass, assert_listing):
    def model(x, mean, var, w, b):
        return F.batch_norm(x, mean, var, w, b)

    args = (torch.randn(2, 4, 8, 8), torch.randn(4), torch.rand(4), torch.randn(4), torch.randn(4))
    _, after = run_pass(model, args, AffineBatchNorm())
    name = "_native_batch_norm_legit_no_training"
    assert_listing(
        after,
        f"""graph main
        in   x                                      f32[2, 4, 8, 8]
        in   mean                                   f32[4]
        in   var                                    f32[4]
        in   w                                      f32[4]
        in   b                                      f32[4]
        {name}_add = add(var, 1e-05)                f32[4]
        {name}_rsqrt = rsqrt({name}_add)            f32[4]
        {name}_mul = mul({name}_rsqrt, w)           f32[4]
        {name}_mul_1 = mul(mean, {name}_mul)        f32[4]
        {name}_sub = sub(b, {name}_mul_1)           f32[4]
        {name}_view = view({name}_mul, [4, 1, 1])   f32[4, 1, 1]
        {name}_mul_2 = mul(x, {name}_view)          f32[2, 4, 8, 8]
        {name}_view_1 = view({name}_sub, [4, 1, 1]) f32[4, 1, 1]
        getitem = add({name}_mul_2, {name}_view_1)  f32[2, 4, 8, 8]
        return (getitem)
        """,
    )


def test_without_weight_and_in_half_precision(run_pass):
    norm = torch.nn.BatchNorm1d(3, affine=False)
    norm.running_mean.normal_()
    run_pass(norm.eval(), (torch.randn(4, 3, 5),), AffineBatchNorm())
    run_pass(norm.eval(), (torch.randn(4, 3, 5, dtype=torch.float16),), AffineBatchNorm())


def test_saved_statistics_that_are_read_are_refused(run_pass):
    def model(x, mean, var):
        return torch.ops.aten._native_batch_norm_legit_no_training(x, None, None, mean, var, 0.1, 1e-5)

    context = Context()
    before, after = run_pass(
        model, (torch.randn(2, 3), torch.zeros(3), torch.ones(3)), AffineBatchNorm(), context=context
    )
    assert after is before
    assert context.declined[0].reason == "its saved statistics are read"

from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.core.context import Context
from penstock.passes.legalize.instance_norm import InstanceNormToGroupNorm


def test_one_channel_a_group(run_pass, assert_listing):
    def model(x, weight, bias):
        return F.instance_norm(x, weight=weight, bias=bias)

    args = (torch.randn(2, 4, 8, 8), torch.randn(4), torch.randn(4))
    _, after = run_pass(model, args, InstanceNormToGroupNorm())
    assert_listing(
        after,
        """graph main
        in   x                                              f32[2, 4, 8, 8]
        in   weight                                         f32[4]
        in   bias                                           f32[4]
        instance_norm = group_norm(x, 4, weight, bias, 1e-05)   f32[2, 4, 8, 8]
        return (instance_norm)
        """,
    )


def test_without_weight(run_pass, op_names):
    _, after = run_pass(lambda x: F.instance_norm(x), (torch.randn(2, 3, 9),), InstanceNormToGroupNorm())
    assert op_names(after) == ["group_norm"]


def test_running_statistics_are_refused(run_pass):
    def model(x, mean, variance):
        return F.instance_norm(x, mean, variance, use_input_stats=False)

    context = Context()
    args = (torch.randn(2, 4, 8), torch.randn(4), torch.rand(4) + 1)
    before, after = run_pass(model, args, InstanceNormToGroupNorm(), context=context)
    assert after is before
    assert context.declined[0].reason == "it normalises by running statistics, which is a batch norm"

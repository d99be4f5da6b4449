from __future__ import annotations

import math
import re

import pytest
import torch

from penstock.passes.analysis.memory import memory
from penstock.passes.cleanup.canonicalize import Canonicalize
from penstock.passes.cleanup.fuse_attention import FuseAttention
from penstock.passes.core.context import Context

SHAPE = (1, 4, 16, 8)


def qkv():
    torch.manual_seed(0)
    return tuple(torch.randn(SHAPE) for _ in range(3))


def plain(q, k, v):
    return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def scaled(q, k, v):
    return ((q @ k.transpose(-1, -2)) / math.sqrt(8)).softmax(-1) @ v


def split_scale(q, k, v):
    return ((q * 8**-0.25) @ (k * 8**-0.25).transpose(-1, -2)).softmax(-1) @ v


def in_single(q, k, v):
    return ((q @ k.transpose(-1, -2)).float() * 0.3).softmax(-1).to(q.dtype) @ v


def guarded(q, k, v):
    p = (q @ k.transpose(-1, -2)).softmax(-1)
    return torch.where(torch.isnan(p), 0.0, p) @ v


def key_given_transposed(q, k, v):
    return (q @ k.reshape(1, 4, 8, 16)).softmax(-1) @ v


def three_dims(q, k, v):
    return torch.bmm(torch.bmm(q[0], k[0].transpose(1, 2)).softmax(-1), v[0])


@pytest.mark.parametrize(
    "model",
    [plain, scaled, split_scale, in_single, guarded, key_given_transposed, three_dims],
    ids=lambda f: f.__name__,
)
def test_becomes_one_operator(run_pass, op_names, model):
    _, after = run_pass(model, qkv(), FuseAttention())
    names = op_names(after)
    assert names.count("scaled_dot_product_attention") == 1
    assert not any("softmax" in name or "matmul" in name or "bmm" in name for name in names)


@pytest.mark.parametrize("mask_shape", [(16, 16), (1, 1, 1, 16), (1, 4, 16, 16)])
def test_masks(run_pass, op_names, mask_shape):
    def masked(q, k, v, mask):
        return ((q @ k.transpose(-1, -2)) * 0.5 + mask).softmax(-1) @ v

    mask = torch.where(torch.rand(mask_shape) < 0.3, -torch.inf, torch.randn(mask_shape))
    mask[..., 0] = 0
    _, after = run_pass(masked, (*qkv(), mask), FuseAttention())
    assert "scaled_dot_product_attention" in op_names(after)


def test_golden_listing(run_pass, assert_listing):
    _, after = run_pass(scaled, qkv(), FuseAttention(), Canonicalize())
    text = """
        graph main
          in   q  f32[1, 4, 16, 8]
          in   k  f32[1, 4, 16, 8]
          in   v  f32[1, 4, 16, 8]
          matmul_1 = scaled_dot_product_attention(q, k, v, scale=0.35355339059327373)  f32[1, 4, 16, 8]
          return (matmul_1)
    """
    assert_listing(after, text)


def test_the_scores_leave_the_memory_timeline(run_pass):
    before, after = run_pass(scaled, tuple(torch.randn(1, 1, 256, 4) for _ in range(3)), FuseAttention())
    assert memory(before).activation_bytes >= 2 * 256 * 256 * 4
    assert memory(after).activation_bytes < 256 * 256 * 4


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda q, k, v: ((p := (q @ k.transpose(-1, -2)).softmax(-1)) @ v, p), "used by more than the attention"),
        (lambda q, k, v: (q @ k.transpose(-1, -2)).relu().softmax(-1) @ v, "neither a scale nor a mask"),
        (lambda q, k, v: (q @ k[:, :1].transpose(-1, -2)).softmax(-1) @ v, "different batch dimensions"),
        (lambda q, k, v: q.repeat(1, 1, 1, 2).softmax(-1) @ v, "not over a product|neither a scale"),
    ],
)
def test_refusals(run_pass, model, reason):
    context = Context()
    before, after = run_pass(model, qkv(), FuseAttention(), context=context)
    assert after is before
    assert any(re.search(reason, item.reason) for item in context.declined), context.declined


def test_softmax_over_another_dimension_is_not_attention(run_pass):
    before, after = run_pass(lambda q, k, v: (q @ k.transpose(-1, -2)).softmax(-2) @ v, qkv(), FuseAttention())
    assert after is before

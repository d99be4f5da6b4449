from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from penstock.passes.core.context import Context
from penstock.passes.core.source import made_by, source_of
from penstock.passes.legalize.decompose_to_core import DecomposeToCore
from penstock.passes.legalize.door import DOOR


def outside(program):
    nodes = program.graphs["main"].graph.nodes
    return [str(node.target) for node in nodes if node.op == "call_function" and node.target not in DOOR]


def test_one_operator(run_pass, assert_listing):
    _, after = run_pass(lambda x: F.hardtanh(x, -1.0, 2.0), (torch.randn(2, 4),), DecomposeToCore())
    assert_listing(
        after,
        """graph main
        in   x                          f32[2, 4]
        hardtanh = clamp(x, -1.0, 2.0)  f32[2, 4]
        return (hardtanh)
        """,
    )


class Spread(torch.nn.Module):
    def forward(self, x):
        return torch.var_mean(x, 1)


def test_new_nodes_keep_the_source_and_name_the_pass(run_pass):
    before, after = run_pass(Spread(), (torch.randn(2, 4),), DecomposeToCore())
    (old,) = [node for node in before.graphs["main"].graph.nodes if "var_mean" in node.name]
    made = [node for node in after.graphs["main"].graph.nodes if node.op == "call_function"]
    assert {source_of(node) for node in made} == {source_of(old)} != {""}
    assert {made_by(node) for node in made} == {"decompose-to-core"}


IMAGE, VIDEO = torch.randn(2, 4, 8, 8), torch.randn(1, 2, 4, 6, 6)

CASES = {
    "native_layer_norm": (lambda x: torch.native_layer_norm(x, [8], None, None, 1e-5), IMAGE),
    "native_group_norm": (lambda x: torch.native_group_norm(x, None, None, 2, 4, 64, 2, 1e-5), IMAGE),
    "batch_norm": (lambda x: F.batch_norm(x, x[0, :, 0, 0], x[1, :, 0, 1].exp()), IMAGE),
    "norm": (lambda x: torch.norm(x, dim=1), IMAGE),
    "var_mean": (lambda x: torch.var_mean(x, (1, 2)), IMAGE),
    "grid_sample": (lambda x: F.grid_sample(x, x[..., :2].permute(0, 2, 1, 3), align_corners=False), IMAGE),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (3, 4)), IMAGE),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 2), IMAGE),
    "max_pool2d_with_indices": (lambda x: F.max_pool2d(x, 2, return_indices=True), IMAGE),
    "pixel_shuffle": (lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2)), IMAGE),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), IMAGE),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bicubic"), IMAGE),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), VIDEO),
    "elementwise": (lambda x: (F.relu6(x), F.selu(x), x.nan_to_num(), torch.logaddexp(x, x * 2), x.frac()), IMAGE),
    "triangles": (lambda x: (x.tril(), x.triu(1), x.masked_fill(x > 0, torch.tensor(3.0))), IMAGE),
    "bucketize": (lambda x: torch.bucketize(x, torch.arange(3.0)), IMAGE),
    "cumprod": (lambda x: x.cumprod(-1), IMAGE),
}


@pytest.mark.parametrize("case", CASES)
def test_real_operators_come_out_inside_the_door(run_pass, case):
    model, x = CASES[case]
    _, after = run_pass(model, (x,), DecomposeToCore())
    assert outside(after) == []


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda x: x.as_strided((2, 2), (1, 2)), "torch has no decomposition of aten.as_strided.default"),
        (torch.erfinv, "torch takes it apart only as far as prims.erf_inv.default"),
        (lambda x: torch.linalg.svd(x), "torch has no decomposition of aten._linalg_svd.default"),
    ],
)
def test_refusals(run_pass, model, reason):
    context = Context()
    before, after = run_pass(lambda x: model(x), (torch.rand(3, 4),), DecomposeToCore(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == [reason]


def test_a_graph_inside_the_door_stays(run_pass):
    before, after = run_pass(lambda x: F.silu(x).softmax(-1), (torch.randn(2, 3),), DecomposeToCore())
    assert after is before

from __future__ import annotations

from collections.abc import Callable

import torch

from penstock.frontends.torch_export import capture_module
from penstock.passes.analysis.cost import cost
from penstock.passes.analysis.memory import memory
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec
from penstock.passes.core.shapes import FAKE_MODE
from penstock.report import Report, build_report, describe


def test_the_figures_are_those_of_the_analyses(captured: Program) -> None:
    info = describe(captured)
    assert info.totals.weight_bytes == captured.weight_bytes
    assert info.totals.activation_bytes == memory(captured).activation_bytes
    assert info.totals.memory_bytes == memory(captured).peak_bytes
    assert info.totals.flops == cost(captured).total.flops > 0
    assert info.totals.operators == captured.node_count == len(info.nodes) == len(info.timeline)
    assert sum(row.flops for row in info.by_operator) == info.totals.flops


def test_nodes_say_where_they_come_from(captured: Program) -> None:
    node = next(node for node in describe(captured).nodes if node.op == "scaled_dot_product_attention")
    assert node.module == "blocks.0"
    assert node.source.startswith("report/conftest.py:")
    assert node.source.endswith(" in forward")
    assert node.type == "f32[2, 16, 8]"
    assert node.call.startswith("scaled_dot_product_attention(")
    assert node.made_by == ""


def test_nodes_made_by_a_pass_say_so(captured: Program, make_report: Callable[..., Report]) -> None:
    report = make_report(captured)
    assert {node.op: node.made_by for node in report.program.nodes if node.made_by} == {"clamp_min": "relu-as-clamp"}


def test_the_tensors_at_the_peak_add_up_to_the_peak(captured: Program) -> None:
    for attention in ("fused", "materialized"):
        info = describe(captured, attention)
        assert info.peak is not None
        assert info.timeline[info.peak].live_bytes == info.totals.activation_bytes
        assert sum(tensor.bytes for tensor in info.peak_tensors) == info.totals.activation_bytes
        sizes = [tensor.bytes for tensor in info.peak_tensors]
        assert sizes == sorted(sizes, reverse=True)


def test_materialized_scores_stand_among_the_tensors_at_the_peak() -> None:
    class Attention(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    info = describe(capture_module(Attention(), (torch.randn(1, 64, 4),)), "materialized")
    largest = info.peak_tensors[0]
    assert largest.name == "scaled_dot_product_attention (scores)"
    assert largest.bytes == 2 * 64 * 64 * 4


def test_a_report_compares_with_the_captured_model(captured: Program, make_report: Callable[..., Report]) -> None:
    report = make_report(captured, target="llvm", memory_budget=1 << 20)
    assert (report.model, report.target, report.memory_budget) == ("Model", "llvm", 1 << 20)
    assert report.captured == report.program.totals
    assert report.captured_live_bytes == tuple(point.live_bytes for point in report.program.timeline)
    assert [record.name for record in report.passes] == ["relu-as-clamp", "leave-alone"]
    assert [item.pass_name for item in report.declined] == ["leave-alone"]


def test_a_report_works_without_passes_and_on_fake_tensors() -> None:
    with FAKE_MODE:
        program = capture_module(torch.nn.Linear(4096, 4096), (torch.empty(1, 4096),))
    report = build_report(program, program)
    assert report.program.totals.weight_bytes == (4096 + 1) * 4096 * 4
    assert report.passes == ()


def test_a_graph_without_operators_has_no_peak() -> None:
    class Identity(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    info = describe(capture_module(Identity(), (torch.randn(4),)))
    assert info.peak is None
    assert info.peak_tensors == ()
    assert info.totals.activation_bytes == 16


def test_a_graph_that_runs_twice_stands_once_among_the_nodes() -> None:
    half = capture_module(torch.nn.Linear(4, 4), (torch.randn(2, 4),))
    spec = half.signature.inputs[0]
    steps = ((Call("main", ("input",), ("middle",)),), (Call("main", ("middle",), ("output",)),))
    signature = Signature(
        (TensorSpec("input", spec.shape, spec.dtype),),
        (TensorSpec("output", spec.shape, spec.dtype),),
        half.signature.arguments,
        half.signature.result,
    )
    info = describe(Program(half.graphs, Plan((Phase("main", steps),)), signature, half.examples))
    assert len(info.nodes) == 1
    assert info.totals.flops == 2 * info.nodes[0].flops
    assert {point.node for point in info.timeline} == {0}

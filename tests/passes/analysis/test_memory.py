from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch.fx import Node

from penstock.passes.analysis.memory import memory
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec
from tests.passes.analysis.graphs import GraphBuilder, measured_live_bytes

aten = torch.ops.aten
KIB = 1024


def live_bytes(program: Program, **options: str) -> list[int]:
    return [point.live_bytes for point in memory(program, **options).timeline]


def test_a_chain_holds_two_buffers_and_frees_its_input(build: GraphBuilder) -> None:
    x = build.argument(256)
    figures = memory(build.finish(build(aten.exp.default, build(aten.exp.default, build(aten.exp.default, x)))))
    assert [point.live_bytes for point in figures.timeline] == [2 * KIB] * 3
    assert [(tensor.name, tensor.op) for tensor in figures.live_at(0)] == [("x0", "input"), ("exp_default", "exp")]
    assert [tensor.name for tensor in figures.live_at(2)] == ["exp_default_1", "exp_default_2"]


def test_a_view_keeps_its_base_alive(build: GraphBuilder) -> None:
    x = build.argument(256)
    base = build(aten.exp.default, x)
    view = build(aten.slice.Tensor, build(aten.view.default, base, [16, 16]), 0, 0, 2)
    other = build(aten.relu.default, build(aten.new_zeros.default, base, [8]))
    result = build(aten.neg.default, view)
    figures = memory(build.finish(result, other))
    base_life = next(tensor for tensor in figures.live_at(1) if tensor.name == base.name)
    assert (base_life.bytes, base_life.made_at, base_life.last_used_at) == (KIB, 0, 5)
    assert not any(tensor.name == view.name for point in figures.timeline for tensor in figures.live_at(point.index))


def test_outputs_live_to_the_end(build: GraphBuilder) -> None:
    x = build.argument(256)
    early = build(aten.exp.default, x)
    late = build(aten.neg.default, build(aten.exp.default, build(aten.relu.default, early)))
    figures = memory(build.finish(early, late))
    assert {tensor.name for tensor in figures.live_at(3)} == {early.name, late.name, "exp_default_1"}


def test_results_of_one_operator_are_freed_separately(build: GraphBuilder) -> None:
    x = build.argument(256)
    top = build(aten.topk.default, x, 128)
    values, indices = (build(operator.getitem, top, index) for index in (0, 1))
    used = build(aten.exp.default, build(aten.add.Tensor, values, 1))
    figures = memory(build.finish(used, build(aten.neg.default, indices)))
    lives = {tensor.name: tensor for point in figures.timeline for tensor in figures.live_at(point.index)}
    assert (lives["topk_default[0]"].bytes, lives["topk_default[0]"].last_used_at) == (512, 3)
    assert (lives["topk_default[1]"].bytes, lives["topk_default[1]"].last_used_at) == (1024, 5)


def test_an_unused_result_lives_while_it_is_made(build: GraphBuilder) -> None:
    x = build.argument(256)
    build(aten.exp.default, x)
    assert live_bytes(build.finish(build(aten.neg.default, x))) == [2 * KIB, 2 * KIB]


def test_materialized_attention_adds_two_score_buffers(build: GraphBuilder) -> None:
    query, key, value = build.argument(2, 4, 16, 8), build.argument(2, 4, 32, 8), build.argument(2, 4, 32, 8)
    program = build.finish(build(aten.scaled_dot_product_attention.default, query, key, value))
    operands = 4 * (2 * 4 * 16 * 8 * 2 + 2 * 2 * 4 * 32 * 8)
    assert memory(program).activation_bytes == operands
    peak = memory(program, attention="materialized").peak
    assert peak is not None
    assert (peak.live_bytes, peak.scratch_bytes) == (operands + 2 * 4 * (2 * 4 * 16 * 32), 2 * 4 * (2 * 4 * 16 * 32))


def test_weights_are_counted_apart(capture: Callable[..., Program]) -> None:
    program = capture(torch.nn.Linear(64, 64), (torch.randn(2, 64),))
    figures = memory(program)
    assert figures.weight_bytes == 4 * (64 * 64 + 64)
    assert figures.activation_bytes == 2 * (2 * 64 * 4)
    assert figures.peak_bytes == figures.weight_bytes + figures.activation_bytes
    assert {tensor.op for tensor in figures.live_at(0)} == {"input", "linear"}


def test_a_program_without_operators_holds_its_inputs(build: GraphBuilder) -> None:
    figures = memory(build.finish(build.argument(256)))
    assert (figures.timeline, figures.peak, figures.activation_bytes) == ((), None, KIB)


def test_points_name_module_and_source(capture: Callable[..., Program]) -> None:
    point = memory(capture(torch.nn.Sequential(torch.nn.ReLU()), (torch.randn(4),))).timeline[0]
    assert (point.graph, point.node, point.op, point.module) == ("main", "relu", "relu", "0")
    assert point.source == ""  # the module's own code is torch's


def two_graph_program(capture: Callable[..., Program], steps: int) -> Program:
    """``state = grow(x)``, then `steps` times ``state = step(state, noise)``; `x` is an output as well."""
    grow = capture(lambda x: torch.cat([x, x]).exp(), (torch.randn(256),))
    step = capture(lambda state, noise: (state.exp() + noise).neg(), (torch.randn(512), torch.randn(512)))
    spec = {name: TensorSpec(name, (size,), torch.float32) for name, size in {"x": 256, "noise": 512, "s": 512}.items()}
    denoise = ((Call("step", ("s", "noise"), ("s",)),),) * steps
    plan = Plan((Phase("encode", ((Call("grow", ("x",), ("s",)),),)), Phase("denoise", denoise)))
    signature = Signature((spec["x"], spec["noise"]), (spec["s"], spec["x"]), {"tuple": []}, {"tuple": []})
    graphs = {"grow": grow.graphs["main"], "step": step.graphs["main"]}
    return Program(graphs, plan, signature, (torch.randn(256), torch.randn(512)))


def test_values_of_the_plan_live_between_calls(capture: Callable[..., Program]) -> None:
    figures = memory(two_graph_program(capture, steps=1))
    # grow: x, cat and the noise that waits; then x is kept as an output through the step.
    assert [(point.graph, point.op, point.live_bytes // KIB) for point in figures.timeline] == [
        ("grow", "cat", 1 + 2 + 2),
        ("grow", "exp", 1 + 2 + 2 + 2),
        ("step", "exp", 1 + 2 + 2 + 2),
        ("step", "add", 1 + 2 + 2 + 2),
        ("step", "neg", 1 + 2 + 2),
    ]
    waiting = [(tensor.name, tensor.op, tensor.shape) for tensor in figures.live_at(0) if tensor.op == "carried"]
    assert waiting == [("noise", "carried", (512,))]


def test_calls_that_are_alike_are_analysed_once(capture: Callable[..., Program]) -> None:
    many, few = memory(two_graph_program(capture, steps=50)), memory(two_graph_program(capture, steps=2))
    assert many.timeline == few.timeline
    assert len(few.timeline) == 2 + 3 + 3  # in the last step the noise is freed, in the others it is kept
    assert few.timeline[-1].live_bytes < few.timeline[-4].live_bytes


def test_real_storages_agree_on_a_transformer_block(capture: Callable[..., Program]) -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    program = capture(layer, (torch.randn(2, 8, 16),))
    assert live_bytes(program) == measured_live_bytes(program)


VIEWS: list[Callable[[GraphBuilder, Node], Node]] = [
    lambda build, x: build(aten.view.default, x, [-1]),
    lambda build, x: build(aten.reshape.default, x, [2, -1]),
    lambda build, x: build(aten.permute.default, x, list(reversed(range(x.meta["val"].dim())))),
    lambda build, x: build(aten.expand.default, build(aten.unsqueeze.default, x, 0), [3, *x.meta["val"].shape]),
    lambda build, x: build(aten.slice.Tensor, x, 0, 0, 1),
    lambda build, x: build(aten.select.int, x, -1, 0),
    lambda build, x: build(operator.getitem, build(aten.split.Tensor, x, 1, 0), 0),
    lambda build, x: build(operator.getitem, build(aten.chunk.default, x, 2, -1), 0),
    lambda build, x: build(operator.getitem, build(aten.unbind.int, x), 1),
    lambda build, x: build(aten.squeeze.dims, build(aten.unsqueeze.default, x, 1), [1]),
]
COMPUTE: list[Callable[[GraphBuilder, Node], Node]] = [
    lambda build, x: build(aten.exp.default, x),
    lambda build, x: build(aten.clone.default, x),
    lambda build, x: build(aten.add.Tensor, x, x),
    lambda build, x: build(aten.cat.default, [x, x]),
    lambda build, x: build(aten.sum.dim_IntList, x, [0]),
    lambda build, x: build(operator.getitem, build(aten.topk.default, x, 1), 0),
]
STEP = st.tuples(st.integers(0, len(VIEWS) + len(COMPUTE) - 1), st.integers(0, 1000))


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=16), st.integers(0, 1000))
def test_real_storages_agree_on_random_graphs(steps: list[tuple[int, int]], result: int) -> None:
    build = GraphBuilder()
    nodes = [build.argument(2, 4, 8), build.argument(4, 6)]
    for choice, operand in steps:
        try:
            nodes.append((VIEWS + COMPUTE)[choice](build, nodes[operand % len(nodes)]))
        except (RuntimeError, IndexError, ValueError):
            continue  # this operator does not take this shape
    program = build.finish(nodes[result % len(nodes)], nodes[-1])
    try:
        measured = measured_live_bytes(program)
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        reject()  # a view that only fake tensors allow: some of their operators leave other strides than the real ones
    assert live_bytes(program) == measured

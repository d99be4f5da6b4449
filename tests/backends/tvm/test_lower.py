from __future__ import annotations

import importlib.metadata
import operator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import tvm
import tvm_ffi
from torch import nn
from torch.fx import Graph
from tvm import relax

from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.ops import registry
from penstock.backends.tvm.ops.emit import Emit
from penstock.backends.tvm.ops.registry import lowering_of, lowers, supported
from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference
from penstock.passes.core.errors import InvalidProgramError, UnsupportedOperatorError
from penstock.passes.core.graphs import make_module
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec, result_nodes
from penstock.passes.core.shapes import fake_like, infer, value_of
from penstock.passes.legalize.door import DOOR
from tests.backends.tvm.execute import runner_of
from tests.backends.tvm.op_cases import case, program_of

aten = torch.ops.aten


def run(program: Program, folder: Path, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return runner_of(program, folder).run(inputs)


def program_on(inputs: dict[str, torch.Tensor], **graphs: torch.fx.GraphModule) -> Program:
    """A program that calls every graph on the same inputs, and returns everything."""
    calls, outputs = [], []
    for name, graph in graphs.items():
        values = [value_of(node) for node in result_nodes(graph)]
        specs = [TensorSpec(f"{name}.{i}", tuple(value.shape), value.dtype) for i, value in enumerate(values)]
        calls.append(Call(name, tuple(inputs), tuple(spec.name for spec in specs)))
        outputs += specs
    taken = tuple(TensorSpec(name, tuple(value.shape), value.dtype) for name, value in inputs.items())
    signature = Signature(taken, tuple(outputs), {"tuple": []}, {"tuple": []})
    return Program(graphs, Plan((Phase("main", (tuple(calls),)),)), signature, tuple(inputs.values()))


class Block(nn.Module):
    """What a diffusion block is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.after = nn.LayerNorm(8)
        self.register_buffer("gain", torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.silu(self.norm(self.conv(x)))
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.gain * self.out(attended)
        return self.after(tokens), F.interpolate(x, scale_factor=2.0)


@pytest.fixture(scope="module")
def block() -> Program:
    torch.manual_seed(0)
    return capture_module(Block(), (torch.randn(2, 4, 6, 5),))


def test_a_block_equals_the_reference(block: Program, tmp_path: Path) -> None:
    expected = reference.run(block, block.examples)
    for wanted, found in zip(expected, run(block, tmp_path, *block.examples), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_parameters_are_the_inputs_then_the_weights(block: Program) -> None:
    lowered = lower(block)
    names = lowered.weights["main"]
    read = [str(node.target) for node in block.graphs["main"].graph.find_nodes(op="get_attr")]
    assert list(names) == list(dict.fromkeys(name for name in read if name in names)), "as the graph names them"
    assert "conv.weight" in names
    function = lowered.module["main"]
    assert function.attrs["num_input"] == 1
    assert len(function.params) == 1 + len(names)
    assert [int(extent) for extent in function.params[1].ty.shape.values] == list(block.weights[names[0]].shape)
    assert isinstance(function.ret_ty, relax.TupleType)


def test_a_number_among_the_weights_becomes_part_of_the_kernels(block: Program) -> None:
    assert "gain" in block.weights
    assert "gain" not in lower(block).weights["main"]


def test_constants_are_numbers_only() -> None:
    class Positions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows = torch.arange(x.shape[0]).to(x.dtype)
            return x + torch.eye(4) * rows[:, None] + torch.full((4, 4), 0.5) + torch.zeros(4)

    module = lower(capture_module(Positions(), (torch.randn(4, 4),))).module
    ranks: list[int] = []
    constant = type(relax.const(0.0))
    tvm_ffi.structural_walk(module["main"], (constant, lambda node: ranks.append(len(node.data.shape))))
    assert not any(ranks)


def test_graphs_share_weights_by_name(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)

    def graph_of(activation: Any) -> torch.fx.GraphModule:
        graph = Graph()
        x = graph.placeholder("x")
        x.meta["val"] = fake_like(torch.randn(2, 4))
        w = graph.create_node("get_attr", "layer.weight")
        w.meta["val"] = fake_like(weight)
        y = graph.call_function(aten.linear.default, (x, w))
        y.meta["val"] = infer(aten.linear.default, (x, w), {})
        z = graph.call_function(activation, (y,))
        z.meta["val"] = infer(activation, (y,), {})
        graph.output((z,))
        return make_module({"layer.weight": weight}, graph)

    x = torch.randn(2, 4)
    program = program_on({"x": x}, full=graph_of(aten.relu.default), reuse=graph_of(aten.neg.default))
    lowered = lower(program)
    assert lowered.weights == {"full": ("layer.weight",), "reuse": ("layer.weight",)}
    full, reuse = run(program, tmp_path, x)
    assert torch.allclose(full, F.linear(x, weight).relu(), atol=1e-6)
    assert torch.allclose(reuse, -F.linear(x, weight), atol=1e-6)
    kernels = [name.name_hint for name in lowered.module.functions if name.name_hint.startswith("linear")]
    assert kernels == ["linear"], "equal kernels of two graphs are one"


def test_a_graph_may_return_its_input_a_number_and_a_value_twice(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.placeholder("x")
    x.meta["val"] = fake_like(torch.randn(3))
    y = graph.call_function(aten.neg.default, (x,))
    y.meta["val"] = infer(aten.neg.default, (x,), {})
    n = graph.call_function(aten.scalar_tensor.default, (2.0,))
    n.meta["val"] = infer(aten.scalar_tensor.default, (2.0,), {})
    graph.output((x, y, y, n))
    value = torch.randn(3)
    program = program_on({"x": value}, main=make_module({}, graph))
    first, second, third, number = run(program, tmp_path, value)
    assert torch.equal(first, value)
    assert torch.equal(second, -value)
    assert torch.equal(third, -value)
    assert number == 2.0


def test_every_operator_of_the_door_is_lowered() -> None:
    missing = DOOR - supported() - {operator.getitem}
    assert not missing, sorted(map(str, missing))


class Exotic(nn.Module):
    def forward(self, x: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sampled = F.grid_sample(x, grid, align_corners=False)
        return sampled, torch.special.i0(x), torch.special.i0(sampled)


def test_all_unsupported_operators_are_named_with_source_and_way_out() -> None:
    program = capture_module(Exotic(), (torch.randn(1, 2, 4, 4), torch.rand(1, 3, 3, 2)))
    with pytest.raises(UnsupportedOperatorError) as caught:
        lower(program)
    error = caught.value
    assert error.exit_code == 3
    by_name = {item.operator: item for item in error.unsupported}
    assert {"aten.grid_sampler_2d.default", "aten.i0.default"} <= set(by_name)
    i0 = by_name["aten.i0.default"]
    assert len(i0.nodes) == 2
    assert all("test_lower.py" in source for source in i0.sources)
    assert "@lowers" in i0.advice
    assert "the TVM back end does not support" in str(error)


def test_the_way_out_names_the_nearest_operator() -> None:
    program = program_of({"main": case(aten.upsample_bilinear2d.default, torch.randn(1, 1, 4, 4), [8, 8], False)})
    with pytest.raises(
        UnsupportedOperatorError, match=r"nearest operator that has one is aten\.upsample_bilinear2d\.vec"
    ):
        lower(program)


def test_complex_numbers_are_refused() -> None:
    class Spectrum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.view_as_real(torch.view_as_complex(x) * 2)

    program = capture_module(Spectrum(), (torch.randn(3, 2),))
    with pytest.raises(UnsupportedOperatorError) as caught:
        lower(program)
    assert any("complex64" in item.operator and "reals" in item.advice for item in caught.value.unsupported)


def test_double_precision_is_refused_on_phones_only() -> None:
    program = program_of({"main": case(aten.exp.default, torch.randn(3, dtype=torch.float64))})
    assert lower(program).weights == {"main": ()}
    with (
        tvm.target.Target({"kind": "opencl"}, host="llvm"),
        pytest.raises(UnsupportedOperatorError, match="cast to float32"),
    ):
        lower(program)


def test_dropout_in_attention_is_refused() -> None:
    q = torch.randn(1, 1, 4, 8)
    program = program_of({"main": case(aten.scaled_dot_product_attention.default, q, q, q, None, 0.5)})
    with pytest.raises(UnsupportedOperatorError, match="evaluation mode"):
        lower(program)


def test_a_lowering_with_a_wrong_result_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lowering_of(aten.neg.default)
    monkeypatch.setitem(registry._TABLE, aten.neg.default, lambda emit, x: emit.cast(x, "int32"))
    with pytest.raises(InvalidProgramError, match=r"lowering of 'neg_default' .* made \(\(3,\), 'int32'\), expected"):
        lower(program_of({"main": case(aten.neg.default, torch.randn(3))}))


def test_a_failing_lowering_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lowering_of(aten.neg.default)
    monkeypatch.setitem(registry._TABLE, aten.neg.default, lambda emit, x: 1 / 0)
    with pytest.raises(
        InvalidProgramError, match=r"lowering 'neg_default' \(aten.neg.default\) failed: ZeroDivisionError"
    ):
        lower(program_of({"main": case(aten.neg.default, torch.randn(3))}))


def test_a_graph_cannot_take_the_name_of_a_kernel() -> None:
    program = program_of({"linear": case(aten.linear.default, torch.randn(2, 4), torch.randn(3, 4))})
    with pytest.raises(InvalidProgramError, match="give the graph 'linear' another name"):
        lower(program)


@torch.library.custom_op("penstock_test::triple", mutates_args=())
def triple(x: torch.Tensor, shift: float = 1.0) -> torch.Tensor:
    return x * 3 + shift


@triple.register_fake
def _(x: torch.Tensor, shift: float = 1.0) -> torch.Tensor:
    return torch.empty_like(x)


def test_a_user_adds_a_lowering_for_an_own_operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "_TABLE", dict(registry._TABLE))
    target = torch.ops.penstock_test.triple.default

    @lowers(target)
    def lower_triple(emit: Emit, x: Any, shift: float) -> Any:
        return emit.elementwise(lambda value: value * 3.0 + shift, x, shape=emit.shape, name="triple")

    x = torch.randn(4)
    program = program_of({"main": case(target, x)})
    assert torch.allclose(run(program, tmp_path, x)[0], x * 3 + 1)
    with pytest.raises(InvalidProgramError, match=r"two lowerings for penstock_test\.triple\.default"):
        lowers(target)(lambda emit, x, shift: x)


def test_packages_announce_lowerings_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    entry = SimpleNamespace(name="theirs", load=lambda: loaded.append("theirs"))

    def entry_points(*, group: str) -> list[Any]:
        return [entry] if group == "penstock.lowerings" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry._discover.cache_clear()
    supported()
    assert loaded == ["theirs"]

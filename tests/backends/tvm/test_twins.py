from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.fx import Graph, GraphModule

from penstock.backends.runner import opencl_devices
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import launches_of
from penstock.backends.tvm.twins import first_of_each
from penstock.passes.core import reference
from penstock.passes.core.graphs import make_module
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import fake_like, infer
from tests.backends.tvm.execute import runner_of
from tests.backends.tvm.test_lower import program_on

aten = torch.ops.aten
X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def layers(weights: dict[str, torch.Tensor], *order: str) -> GraphModule:
    """A chain of products, each with the weight of some name."""
    graph = Graph()
    value = graph.placeholder("x")
    value.meta["val"] = fake_like(X)
    for name in order:
        weight = graph.create_node("get_attr", name)
        weight.meta["val"] = fake_like(weights[name])
        operator = aten.linear.default if weights[name].dim() else aten.mul.Tensor
        operands = value, weight
        value = graph.call_function(operator, operands)
        value.meta["val"] = infer(operator, operands, {})
    graph.output((value,))
    return make_module({name: weights[name] for name in order}, graph)


def square(seed: int) -> torch.Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))


def blocks() -> Program:
    """Two blocks of one form, whose weights are named in other orders, and one of another form."""
    weights = {name: square(seed) for seed, name in enumerate(("a.up", "a.down", "b.zoom", "b.apart"))}
    return program_on(
        {"x": X},
        first=layers(weights, "a.up", "a.down"),
        second=layers(weights, "b.zoom", "b.apart"),
        other=layers(weights, "b.zoom"),
    )


def test_graphs_that_differ_in_their_weights_are_made_once() -> None:
    program = blocks()
    assert first_of_each(program.graphs) == {"first": "first", "second": "first", "other": "other"}
    launches = launches_of(program, find_target("llvm"))
    assert set(launches.bodies) == {"first", "second", "other"}
    assert set(launches.nodes) == {"first", "other"}
    assert launches.bodies["first"].ops == launches.bodies["second"].ops


@pytest.mark.parametrize("target", ["llvm", "opencl"])
@pytest.mark.native
def test_each_runs_on_its_own_weights(target: str, tmp_path: Path) -> None:
    """Also where they are packed: for a CPU by the graph's lowering, for a GPU before it."""
    if target == "opencl" and not opencl_devices():
        pytest.skip("no OpenCL device")
    program = blocks()
    expected = reference.run(program, program.examples)
    for found, wanted in zip(runner_of(program, tmp_path, target).run(program.examples), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_weight_read_twice_is_not_two_weights() -> None:
    weights = {"a": square(0), "b": square(1)}
    graphs = {"two": layers(weights, "a", "b"), "one": layers(weights, "a", "a"), "same": layers(weights, "b", "b")}
    assert first_of_each(graphs) == {"two": "two", "one": "one", "same": "one"}


def test_numbers_are_part_of_kernels() -> None:
    weights = {"n.one_half": torch.tensor(0.5), "n.also": torch.tensor(0.5), "n.third": torch.tensor(0.25)}
    graphs = {name: layers(weights, name) for name in weights}
    assert first_of_each(graphs) == {"n.one_half": "n.one_half", "n.also": "n.one_half", "n.third": "n.third"}

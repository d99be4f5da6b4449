from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch.fx import Graph, GraphModule, Node

from penstock.frontends.torch_export import capture_module
from penstock.passes.core import dialect
from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.graphs import copy_graph, make_module
from penstock.passes.core.program import Call, Phase, Plan, Program

aten = torch.ops.aten


@pytest.fixture
def program() -> Program:
    return capture_module(torch.nn.Linear(2, 3), (torch.randn(1, 2),))


def edited(program: Program, edit: Callable[[Graph, dict[str, Node]], None]) -> Program:
    module = program.graphs["main"]
    graph, _ = copy_graph(module.graph)
    edit(graph, {node.name: node for node in graph.nodes})
    return program.with_graphs(main=make_module(dict(program.weights), graph))


def drop_value(graph: Graph, nodes: dict[str, Node]) -> None:
    del nodes["linear"].meta["val"]


def mutate(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["linear"].target = aten.add_.Tensor
    nodes["linear"].args = (nodes["input"], 1) if "input" in nodes else nodes["linear"].args[:2]


def foreign_call(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["linear"].target = torch.nn.functional.linear


def same_name(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["linear"].name = "bias"


def wrong_order(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["linear"].append(nodes["weight"])


def nested_output(graph: Graph, nodes: dict[str, Node]) -> None:
    graph.output_node().args = ((nodes["linear"], 1),)


def other_mode(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["linear"].meta["val"] = torch.empty(1, 3)


def wrong_weight(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["weight"].meta["val"] = nodes["bias"].meta["val"]


def placed(graph: Graph, nodes: dict[str, Node]) -> None:
    nodes["linear"].target = aten.zeros.default
    nodes["linear"].args, nodes["linear"].kwargs = ([1, 3],), {"device": torch.device("cuda")}


BREACHES = {
    placed: "'linear' names the device cuda",
    drop_value: "carries no fake value",
    mutate: "mutates: aten.add_.Tensor",
    foreign_call: "is not an operator overload",
    same_name: "two nodes are called 'bias'",
    wrong_order: "uses 'weight' before it is made",
    nested_output: "not a flat tuple of nodes",
    other_mode: "outside the shared fake mode",
    wrong_weight: r"weight 'weight' is \(3, 2\)",
}


@pytest.mark.parametrize(("edit", "message"), BREACHES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_breaches_of_graphs(program: Program, edit: Callable[..., None], message: str) -> None:
    with pytest.raises(InvalidProgramError, match=rf"the test made an illegal program:[\s\S]*{message}"):
        dialect.check(edited(program, edit), "the test")


def plan(*calls: Call) -> Plan:
    return Plan((Phase("main", (calls,)),))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (plan(Call("other", ("input_1",), ("output",))), "calls 'other', which is no graph"),
        (plan(Call("main", (), ("output",))), r"with 0 argument\(s\) and 1 result"),
        (plan(Call("main", ("y",), ("output",))), "passes 'y' to 'main' before it is bound"),
        (plan(Call("main", ("input_1",), ("z",))), "output 'output' is not bound"),
        (plan(Call("main", ("input_1",), ("t",)), Call("main", ("t",), ("output",))), r"takes \(1, 2\)"),
    ],
)
def test_breaches_of_the_plan(program: Program, broken: Plan, message: str) -> None:
    with pytest.raises(InvalidProgramError, match=message):
        dialect.check(dataclasses.replace(program, plan=broken), "the test")


def test_a_legal_program_passes(program: Program) -> None:
    assert isinstance(program.graphs["main"], GraphModule)
    dialect.check(program, "the test")


def test_a_weight_is_one_tensor_in_all_graphs(program: Program) -> None:
    graph, _ = copy_graph(program.graphs["main"].graph)
    weights = {name: tensor + 1 for name, tensor in program.weights.items()}
    broken = dataclasses.replace(program, graphs={**program.graphs, "other": make_module(weights, graph)})
    with pytest.raises(InvalidProgramError, match="graph 'other': its weight 'bias' is another tensor than that of"):
        dialect.check(broken, "the test")
    dialect.check(program.with_graphs(other=make_module(weights, graph)), "the test")

"""Program and Plan: the thin frozen container around `torch.fx` graphs that every pass takes and returns.

A graph is an FX `GraphModule` in penstock's dialect (see `dialect`): placeholders are its arguments, ``get_attr`` nodes
are weights under the names of the model's state dict, and the output node returns a flat tuple. Weights live once: two
graphs that use the same weight name hold the same tensor object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch.fx import GraphModule, Node

from penstock.passes.core.shapes import is_fake, nbytes
from penstock.passes.core.structure import Structure


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one tensor at the border of a Program."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Dense size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class Signature:
    """The border of a Program.

    Attributes:
        inputs: the user's tensors in order, then one per state (a buffer that the model mutates).
        outputs: the model's tensors in order, then the new value of each state.
        states: the names of the states; `inputs` and `outputs` both end with them, in this order.
        arguments: how the user's inputs nest in ``(args, kwargs)``.
        result: how the model's outputs nest in its result.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arguments: Structure
    result: Structure
    states: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """Run `graph` on named values and bind its outputs to names."""

    graph: str
    args: tuple[str, ...]
    results: tuple[str, ...]


Op = Call
Step = tuple[Op, ...]


@dataclass(frozen=True)
class Phase:
    """A part of a generation (encode, denoise, decode): steps in the order in which they run.

    A value that a step binds stays visible to all later steps until it is bound again: such values are *carried*.
    """

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Plan:
    """What runs, in order."""

    phases: tuple[Phase, ...]

    @staticmethod
    def single(graph: str, args: tuple[str, ...], results: tuple[str, ...]) -> Plan:
        """The plan of a plain import: one phase, one step, one call."""
        return Plan((Phase("main", ((Call(graph, args, results),),)),))

    def ops(self) -> Iterator[Op]:
        """All ops in execution order, repeated steps included."""
        for phase in self.phases:
            for step in phase.steps:
                yield from step


@dataclass(frozen=True)
class Program:
    """Graphs, the plan that runs them, and the border they share.

    Attributes:
        graphs: the graphs by name. Never edit one in place: a pass copies what it changes.
        plan: the order in which they run.
        signature: the inputs and outputs.
        examples: one tensor per input: the values the model was captured with, the initial value for a state. They
            feed verification. Fake tensors when the model was captured on fake tensors.
        provenance: what was done to the model so far, in order.
    """

    graphs: Mapping[str, GraphModule]
    plan: Plan
    signature: Signature
    examples: tuple[torch.Tensor, ...]
    provenance: tuple[str, ...] = ()
    _weights: Mapping[str, torch.Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "graphs", MappingProxyType(dict(self.graphs)))
        weights: dict[str, torch.Tensor] = {}
        for graph in self.graphs.values():
            weights.update(weights_of(graph))
        object.__setattr__(self, "_weights", MappingProxyType(dict(sorted(weights.items()))))

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """All weights and constants of all graphs by name, sorted, each once."""
        return self._weights

    @property
    def weight_bytes(self) -> int:
        """Bytes of all distinct weight tensors (two names of one tensor count once)."""
        return sum({id(tensor): nbytes(tensor) for tensor in self.weights.values()}.values())

    @property
    def is_fake(self) -> bool:
        """Whether the weights have shapes but no data: such a Program can be analysed, not run or compiled."""
        return any(is_fake(tensor) for tensor in (*self.weights.values(), *self.examples))

    @property
    def node_count(self) -> int:
        """Operator nodes over all graphs."""
        return sum(1 for graph in self.graphs.values() for node in graph.graph.nodes if node.op == "call_function")

    def with_graphs(self, **graphs: GraphModule) -> Program:
        """The same Program with some graphs replaced or added."""
        return replace(self, graphs={**self.graphs, **graphs})

    def noted(self, note: str) -> Program:
        """The same Program with one more line of provenance."""
        return replace(self, provenance=(*self.provenance, note))

    def as_module(self, graph: str = "main") -> GraphModule:
        """One graph as a trainable `torch.nn.Module`; its parameters are the captured model's own."""
        return self.graphs[graph]


def weights_of(graph: GraphModule) -> dict[str, torch.Tensor]:
    """The weights that a graph reads, by name."""
    return {str(node.target): attribute(graph, str(node.target)) for node in graph.graph.find_nodes(op="get_attr")}


def attribute(module: torch.nn.Module, name: str) -> torch.Tensor:
    """The tensor at a dotted path below a module."""
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"'{name}' is {type(value).__name__}, expected a tensor")
    return value


def result_nodes(graph: GraphModule) -> tuple[Node, ...]:
    """The nodes that a graph returns, in order."""
    return tuple(graph.graph.output_node().args[0])  # type: ignore[arg-type]


def placeholders(graph: GraphModule) -> tuple[Node, ...]:
    """The argument nodes of a graph, in order."""
    return tuple(graph.graph.find_nodes(op="placeholder"))

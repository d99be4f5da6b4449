"""Program and Plan: the thin frozen container around `torch.fx` graphs that every pass takes and returns.

A graph is an FX `GraphModule` in penstock's dialect (see `dialect`): placeholders are its arguments, ``get_attr`` nodes
are weights under the names of the model's state dict, and the output node returns a flat tuple. Weights live once: two
graphs that use the same weight name hold the same tensor object.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch.fx import GraphModule, Node

from penstock.passes.core.errors import UsageError
from penstock.passes.core.graphs import copy_graph, make_module
from penstock.passes.core.shapes import dtype_named, is_fake, nbytes
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


@dataclass(frozen=True)
class Window:
    """A moving part of a tensor along one axis: a dimension that is ``outer × size × inner``, row-major.

    Iteration k sees positions ``start + k·step`` … ``start + k·step + extent - 1`` of the middle factor.
    """

    dim: int
    outer: int
    size: int
    inner: int
    start: int
    step: int
    extent: int

    def shape(self, whole: Sequence[int]) -> tuple[int, ...]:
        """The shape of a part of a tensor."""
        return (*whole[: self.dim], self.outer * self.extent * self.inner, *whole[self.dim + 1 :])

    def split(self, shape: Sequence[int], count: int) -> tuple[int, ...]:
        """A shape with the dimension taken apart into its factors, `count` positions in the middle."""
        return (*shape[: self.dim], self.outer, count, self.inner, *shape[self.dim + 1 :])

    def is_contiguous(self, whole: Sequence[int]) -> bool:
        """Whether a part of a dense row-major tensor lies in one piece."""
        return math.prod(whole[: self.dim]) * self.outer == 1


@dataclass(frozen=True)
class Kept:
    """What one iteration of a loop hands on to the next.

    Attributes:
        memory: which of the loop's `kept` it lies in.
        value: what the body calls it.
        shape: at most as large as the memory.
        has_both: whether some of it is made and some of it was taken, so that it cannot be made where that lies.
    """

    memory: str
    value: str
    shape: tuple[int, ...]
    has_both: bool = False


@dataclass(frozen=True)
class KeptMemory:
    """Memory of a loop for what its iterations hand on: the most that lies in it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def spec(self) -> TensorSpec:
        """Its name, shape and dtype."""
        return TensorSpec(self.name, self.shape, dtype_named(self.dtype))


@dataclass(frozen=True)
class Piece:
    """Iterations of a loop that run the same operators.

    Attributes:
        count: how many.
        args: for each parameter, the value outside and the window through which an iteration sees it; None for all.
        params: what the body calls them.
        ops: the body; its values are visible to no one else.
        returns: for each result of the loop, the value of the body that goes into it; None where it makes none of it.
        tiles: where it goes.
        takes: what the iteration before handed on, with the names of further parameters.
        keeps: values of the body that the next iteration takes.
    """

    count: int
    args: tuple[tuple[str, Window | None], ...]
    params: tuple[str, ...]
    ops: tuple[Op, ...]
    returns: tuple[str | None, ...]
    tiles: tuple[Window | None, ...]
    takes: tuple[Kept, ...] = ()
    keeps: tuple[Kept, ...] = ()

    @property
    def made(self) -> tuple[str, ...]:
        """The values of the body that are needed after it."""
        return *(name for name in self.returns if name is not None), *(each.value for each in self.keeps)

    def lies_in_place(self, kept: Kept) -> bool:
        """Whether what is kept can be made where what was taken lies: nothing reads that any more by then.

        Within one graph the operators stand in such an order; the parts of a loop inside read and write in turn.
        """
        if kept.has_both:
            return False
        taken = {each.value for each in self.takes if each.memory == kept.memory}
        read = max((index for index, op in enumerate(self.ops) if not taken.isdisjoint(op.args)), default=-1)
        made = next((index for index, op in enumerate(self.ops) if kept.value in op.results), -1)
        return read < made or (read == made >= 0 and isinstance(self.ops[made], Call))


@dataclass(frozen=True)
class SliceLoop:
    """Make some values part by part. The pieces run one after the other; their tiles cover each result exactly once.

    Attributes:
        results: the names of the values that it makes, with their shapes and dtypes.
        reuses: for each result, the argument whose memory it takes over, or None. Nothing needs that argument later,
            and an iteration sees of it just what it writes.
        kept: memory for what iterations hand on to each other, from the first to the last.
    """

    results: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    pieces: tuple[Piece, ...]
    reuses: tuple[str | None, ...]
    kept: tuple[KeptMemory, ...] = ()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Name, shape and dtype of each result."""
        border = zip(self.results, self.shapes, self.dtypes, strict=True)
        return tuple(TensorSpec(name, shape, dtype_named(dtype)) for name, shape, dtype in border)

    @property
    def args(self) -> tuple[str, ...]:
        """The values that the loop takes, each once."""
        return tuple(dict.fromkeys(name for piece in self.pieces for name, _ in piece.args))


Op = Call | SliceLoop
Step = tuple[Op, ...]


def calls_of(ops: Iterable[Op], times: int = 1) -> Iterator[tuple[Call, int]]:
    """The calls of graphs in ops, those inside of loops included, with how often each runs."""
    for op in ops:
        if isinstance(op, Call):
            yield op, times
        else:
            for piece in op.pieces:
                yield from calls_of(piece.ops, times * piece.count)


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

    def calls(self) -> Iterator[tuple[Call, int]]:
        """The calls of graphs, those inside of loops included, with how often each runs."""
        return calls_of(self.ops())


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
        in_place: whether results are written over operands that die, where that changes no number
            (`penstock.passes.core.overwriting`). Otherwise each result has memory of its own, as in PyTorch.
    """

    graphs: Mapping[str, GraphModule]
    plan: Plan
    signature: Signature
    examples: tuple[torch.Tensor, ...]
    provenance: tuple[str, ...] = ()
    in_place: bool = False
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
    def device(self) -> torch.device:
        """Where its weights and examples lie; the oracle runs it there, and makes there what depends on no input."""
        return next((tensor.device for tensor in (*self.weights.values(), *self.examples)), torch.device("cpu"))

    @property
    def is_fake(self) -> bool:
        """Whether the weights have shapes but no data: such a Program can be analysed, not run or compiled."""
        return any(is_fake(tensor) for tensor in (*self.weights.values(), *self.examples))

    @property
    def node_count(self) -> int:
        """Operator nodes over all graphs."""
        return sum(1 for graph in self.graphs.values() for node in graph.graph.nodes if node.op == "call_function")

    def with_graphs(self, **graphs: GraphModule) -> Program:
        """The same Program with some graphs replaced or added.

        Weights are shared by name across graphs. Where a new graph gives a name to a tensor that is another one
        elsewhere (two graphs may fold different constants of the same name), the name is changed in the new graph.
        """
        known: dict[str, torch.Tensor] = {}
        for name, module in self.graphs.items():
            known.update({} if name in graphs else weights_of(module))
        for module in graphs.values():
            for weight, tensor in weights_of(module).items():
                if not is_same(known.setdefault(weight, tensor), tensor):
                    known[_renamed(module, weight, tensor, known)] = tensor
        return replace(self, graphs={**self.graphs, **graphs})

    def to(self, device: torch.device | str) -> Program:
        """The same Program with its weights and examples on a device; itself if that is where they lie.

        Move it after the passes: some make constants, on the CPU.
        """
        wanted = torch.empty(0, device=device).device  # "cuda" with its index
        if all(tensor.device == wanted for tensor in (*self.weights.values(), *self.examples)):
            return self
        moved = {id(tensor): _moved(tensor, wanted) for tensor in self.weights.values()}  # each once
        weights = {name: moved[id(tensor)] for name, tensor in self.weights.items()}
        return self._over(weights, [example.to(wanted) for example in self.examples])

    def with_data(self, weights: Mapping[str, torch.Tensor], examples: Sequence[torch.Tensor]) -> Program:
        """The same Program, captured on fake tensors, with data, so that it can run.

        A model can be captured and sliced before there is memory for it; then its weights are read straight to where
        they shall lie.

        Args:
            weights: by the names of `weights`, which are those of the model's state dict, all on one device. Constants
                that were computed at capture stay; names that the Program does not read mean nothing.
            examples: one tensor per input, on the same device.

        Raises:
            UsageError: the Program has data already; or a tensor is missing, of another shape or dtype, or elsewhere.
        """
        wanted = {name: weight for name, weight in self.weights.items() if is_fake(weight)}
        if not wanted:
            raise UsageError("the program has its weights already, and passes may have computed others from them")
        for name, weight in wanted.items():
            if name not in weights:
                raise UsageError(f"there is no weight '{name}' among those given")
            _check_type(f"weight '{name}'", weight, weights[name])
        if len(examples) != len(self.examples):
            raise UsageError(f"expected {len(self.examples)} example(s), got {len(examples)}")
        for spec, known, example in zip(self.signature.inputs, self.examples, examples, strict=True):
            _check_type(f"example '{spec.name}'", known, example)
        given = {name: weights[name] for name in wanted}
        device = next(iter(given.values())).device
        for name, tensor in (
            *given.items(),
            *zip((spec.name for spec in self.signature.inputs), examples, strict=True),
        ):
            if tensor.device != device:
                raise UsageError(f"'{name}' is on {tensor.device}, others are on {device}")
        kept = {name: weight.to(device) for name, weight in self.weights.items() if name not in wanted}
        return self._over({**kept, **given}, examples)

    def _over(self, weights: Mapping[str, torch.Tensor], examples: Sequence[torch.Tensor]) -> Program:
        """The same Program over other tensors."""
        graphs = {}
        for name, module in self.graphs.items():
            own = {key: weights[key] for key in weights_of(module)}
            graphs[name] = make_module(own, copy_graph(module.graph)[0], type(module).__name__)
        return replace(self, graphs=graphs, examples=tuple(examples))

    def noted(self, note: str) -> Program:
        """The same Program with one more line of provenance."""
        return replace(self, provenance=(*self.provenance, note))

    def as_module(self, graph: str = "main") -> GraphModule:
        """One graph as a trainable `torch.nn.Module`; its parameters are the captured model's own."""
        return self.graphs[graph]


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    moved = tensor.detach().to(device)
    return torch.nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else moved


def _check_type(what: str, expected: torch.Tensor, given: torch.Tensor) -> None:
    if (given.shape, given.dtype) != (expected.shape, expected.dtype):
        raise UsageError(
            f"{what}: expected {tuple(expected.shape)} {expected.dtype}, got {tuple(given.shape)} {given.dtype}"
        )


def weight_results(program: Program, call: Call) -> dict[str, str]:
    """The results of a call that are weights as they are, with the weights' names: they take no memory of their own.

    An output of the program is a tensor of its own, whatever it holds.
    """
    outputs = {spec.name for spec in program.signature.outputs}
    nodes = zip(call.results, result_nodes(program.graphs[call.graph]), strict=True)
    return {name: str(node.target) for name, node in nodes if node.op == "get_attr" and name not in outputs}


def weights_of(graph: GraphModule) -> dict[str, torch.Tensor]:
    """The weights that a graph reads, by name."""
    return {str(node.target): attribute(graph, str(node.target)) for node in graph.graph.find_nodes(op="get_attr")}


def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of a name hold the same numbers. Fake tensors hold none: their type is all there is."""
    if one is other:
        return True
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if is_fake(one) or is_fake(other):
        return True
    left, right = (each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other))
    return torch.equal(left, right)


def _renamed(module: GraphModule, weight: str, tensor: torch.Tensor, taken: Container[str]) -> str:
    """Give a weight of a graph a name that is not taken; returns the name."""
    name = next(name for count in itertools.count(1) if (name := f"{weight}_{count}") not in taken)
    path, _, leaf = weight.rpartition(".")
    holder = module.get_submodule(path)
    delattr(holder, leaf)
    leaf = name.rpartition(".")[2]
    if isinstance(tensor, torch.nn.Parameter):
        holder.register_parameter(leaf, tensor)
    else:
        holder.register_buffer(leaf, tensor)
    for node in module.graph.find_nodes(op="get_attr", target=weight):
        node.target = name
    module.recompile()
    return name


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

"""What the tests of analyses share: graphs written node by node, and memory measured on real tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch.fx import Graph, Interpreter, Node
from torch.utils._pytree import tree_leaves

from penstock.passes.core.graphs import make_module
from penstock.passes.core.program import Plan, Program, Signature, TensorSpec, placeholders, result_nodes, weights_of
from penstock.passes.core.shapes import fake_like, infer, nbytes, tensor_of


def single_graph_program(graph: Graph, examples: Sequence[torch.Tensor] = ()) -> Program:
    """A Program of one graph whose nodes carry their fake values."""
    module = make_module({}, graph)
    inputs, outputs = ([_spec(node) for node in nodes] for nodes in (placeholders(module), result_nodes(module)))
    signature = Signature(tuple(inputs), tuple(outputs), {"tuple": []}, {"tuple": []})
    plan = Plan.single("main", tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs))
    return Program({"main": module}, plan, signature, tuple(examples))


def _spec(node: Node) -> TensorSpec:
    value = tensor_of(node)
    return TensorSpec(node.name, tuple(value.shape), value.dtype)


class GraphBuilder:
    """Makes a graph node by node: `argument`, then calls, then `finish`."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.examples: list[torch.Tensor] = []

    def argument(self, *shape: int) -> Node:
        """A float32 argument of the graph."""
        node = self.graph.placeholder(f"x{len(self.examples)}")
        self.examples.append(torch.randn(*shape))
        node.meta["val"] = fake_like(self.examples[-1])
        return node

    def __call__(self, target: Callable[..., object], *args: object, **kwargs: object) -> Node:
        """One operator; an impossible call raises what the operator raises, and makes no node."""
        value = infer(target, args, kwargs)
        node = self.graph.call_function(target, args, kwargs)
        node.meta["val"] = value
        return node

    def finish(self, *results: Node) -> Program:
        """The Program that returns `results`."""
        self.graph.output(results)
        return single_graph_program(self.graph, self.examples)


class StorageMeter(Interpreter):
    """Runs a graph on real tensors and adds up the distinct storages that are held while each operator runs.

    A storage counts as much as the first tensor in it, counted dense.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program.graphs["main"])
        self.live_bytes: list[int] = []
        self._weights = set(map(_storage, weights_of(program.graphs["main"]).values()))
        self._sizes: dict[int, int] = {}
        self._position = {node: index for index, node in enumerate(self.module.graph.nodes)}
        self._last_use: dict[Node, int] = {}
        for node, index in self._position.items():
            for used in (node, *node.all_input_nodes):
                self._last_use[used] = index

    def run_node(self, node: Node) -> object:
        for known in [known for known in self.env if self._is_over(known, node)]:
            del self.env[known]
        self._weigh(self.env.values())
        value = super().run_node(node)
        if node.op == "call_function":
            self._weigh([*self.env.values(), value])
            self.live_bytes.append(sum(size for storage, size in self._sizes.items() if storage not in self._weights))
        return value

    def _weigh(self, held: Iterable[object]) -> None:
        tensors = reversed(tree_leaves(list(held)))  # so that the first tensor of a storage is the one that counts
        sizes = {_storage(tensor): nbytes(tensor) for tensor in tensors}
        self._sizes = {storage: self._sizes.get(storage, size) for storage, size in sizes.items()}

    def _is_over(self, known: Node, now: Node) -> bool:
        """Whether nothing from `now` on reads a value; an argument that nothing reads is held during the first."""
        return self._last_use[known] < self._position[now] and bool(known.users or self.live_bytes)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def measured_live_bytes(program: Program) -> list[int]:
    """Bytes of activations held while each operator runs, as PyTorch's own storages tell."""
    meter = StorageMeter(program)
    with torch.no_grad():
        meter.run(*(example.clone() for example in program.examples))
    return meter.live_bytes

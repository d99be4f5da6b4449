"""What the tests of analyses share: graphs written node by node, and memory measured on real tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.fx import Graph, Interpreter, Node

from penstock.passes.core.program import Plan, Program, Signature, TensorSpec, placeholders, result_nodes, weights_of
from penstock.passes.core.rewriter import make_module
from penstock.passes.core.shapes import fake_like, infer, tensor_of


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
    """Runs a graph on real tensors and adds up the distinct storages that are held after each operator."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.graphs["main"])
        weights = weights_of(program.graphs["main"]).values()
        self.weights = {tensor.untyped_storage().data_ptr() for tensor in weights}
        self.last_use: dict[Node, Node] = {}
        for node in self.module.graph.nodes:
            for used in (node, *node.all_input_nodes):
                self.last_use[used] = node
        self.live_bytes: list[int] = []

    def run_node(self, node: Node) -> object:
        for known in [known for known in self.env if self._is_over(known, node)]:
            del self.env[known]
        value = super().run_node(node)
        if node.op == "call_function":
            held = torch.utils._pytree.tree_leaves([*self.env.values(), value])
            storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}
            self.live_bytes.append(sum(size for pointer, size in storages.items() if pointer not in self.weights))
        return value

    def _is_over(self, known: Node, now: Node) -> bool:
        """Whether nothing from `now` on reads a value; an argument that nothing reads is held during the first."""
        return self._order(self.last_use[known]) < self._order(now) and bool(known.users or self.live_bytes)

    def _order(self, node: Node) -> int:
        if not hasattr(self, "_positions"):
            self._positions = {node: index for index, node in enumerate(self.module.graph.nodes)}
        return self._positions[node]


def measured_live_bytes(program: Program) -> list[int]:
    """Bytes of activations held while each operator runs, as PyTorch's own storages tell."""
    meter = StorageMeter(program)
    with torch.no_grad():
        meter.run(*(example.clone() for example in program.examples))
    return meter.live_bytes

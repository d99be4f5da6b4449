"""Editing graphs: a private copy of one graph, edited by one pass, with shapes inferred as nodes are made.

::

    edit = Rewriter(program.graphs["main"], made_by="my-pass")
    for node in edit.nodes(aten.relu.default):
        edit.replace(node, edit.at(node)(aten.clamp_min.default, node.args[0], 0))
    program = program.with_graphs(main=edit.finish())

A pass that replaces single operators needs even less: see `RewritePass` in `base`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node

from penstock.passes.core.arguments import changed_arguments
from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.graphs import copy_graph, eliminate_dead_nodes, make_module
from penstock.passes.core.program import weights_of
from penstock.passes.core.shapes import fake_like, infer
from penstock.passes.core.source import inherit

_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)


class Rewriter:
    """A private copy of one graph.

    Args:
        module: the graph to copy. It is not changed; weights are shared.
        made_by: the pass that edits, recorded on every node it makes.
    """

    def __init__(self, module: GraphModule, made_by: str) -> None:
        self.made_by = made_by
        self.graph, self.origin = copy_graph(module.graph)
        self.weights: dict[str, torch.Tensor] = weights_of(module)
        self.changed = False
        self._fresh: set[Node] = set()
        self._restrided: set[Node] = set()

    def nodes(self, *targets: Any) -> list[Node]:
        """The operator nodes in order, or only those that call one of `targets`."""
        nodes = [node for node in self.graph.nodes if node.op == "call_function"]
        return [node for node in nodes if node.target in targets] if targets else nodes

    def at(self, node: Node) -> Emitter:
        """An emitter that makes nodes just before `node` and gives them its module and source line."""
        return Emitter(self, node)

    def replace(self, node: Node, replacement: Node | Sequence[Node]) -> None:
        """Let every user of `node` use `replacement`, which takes over its name.

        A sequence replaces a node that yields a tuple: item by item, through its ``getitem`` users.
        """
        self.changed = True
        if isinstance(replacement, Node):
            self._replace_one(node, replacement)
            return
        for user in list(node.users):
            if user.target is not operator.getitem:
                raise InvalidProgramError(f"{self.made_by}: '{user.name}' uses the tuple '{node.name}' as a whole")
            self._replace_one(user, replacement[int(user.args[1])])  # type: ignore[arg-type]
        self.graph.erase_node(node)

    def _replace_one(self, node: Node, replacement: Node) -> None:
        if _strides(node.meta["val"]) != _strides(replacement.meta["val"]):
            self._restrided.add(replacement)
        node.replace_all_uses_with(replacement)
        self.graph.erase_node(node)
        if replacement in self._fresh:
            self._fresh.remove(replacement)
            replacement.name = node.name

    def add_weight(self, name: str, tensor: torch.Tensor) -> str:
        """Register a new weight or constant under `name`, made unique; returns the name."""
        unique, count = name, 0
        while unique in self.weights and self.weights[unique] is not tensor:
            count += 1
            unique = f"{name}_{count}"
        self.weights[unique] = tensor
        return unique

    def finish(self, name: str = "Graph") -> GraphModule:
        """The edited graph without the nodes that nothing uses, as a new module that shares the weights."""
        eliminate_dead_nodes(self.graph)
        self._settle_strides()
        used = {str(node.target) for node in self.graph.find_nodes(op="get_attr")}
        return make_module({key: self.weights[key] for key in self.weights if key in used}, self.graph, name)

    def _settle_strides(self) -> None:
        """Infer anew what depends on a value whose strides changed; a `view` that they forbid becomes a `reshape`."""
        restrided = set(self._restrided)
        for node in self.nodes():
            if restrided.isdisjoint(node.all_input_nodes):
                continue
            try:
                value = infer(node.target, node.args, node.kwargs)
            except (RuntimeError, ValueError):
                if node.target not in _VIEWS:
                    raise
                node.target = torch.ops.aten.reshape.default
                value = infer(node.target, node.args, node.kwargs)
            if _strides(value) != _strides(node.meta["val"]):
                restrided.add(node)
            node.meta["val"] = value


class Emitter:
    """Makes nodes before an anchor node: ``emit(aten.add.Tensor, a, b)`` returns the new node, its shape inferred."""

    def __init__(self, rewriter: Rewriter, anchor: Node) -> None:
        self.rewriter = rewriter
        self.anchor = anchor

    def __call__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
        """Make one operator node. Arguments are nodes and constants; an impossible shape raises here."""
        name = f"{self.anchor.name}_{_short_name(target)}"
        try:
            value = infer(target, args, kwargs)
        except Exception as error:
            raise InvalidProgramError(
                f"{self.rewriter.made_by}: replacing '{self.anchor.name}', {target} does not take these arguments: "
                f"{str(error).splitlines()[0]}"
            ) from error
        with self._before_anchor():
            node = self.rewriter.graph.call_function(target, args, kwargs)
        node.name = _unique(self.rewriter.graph, name)
        return self._dress(node, value)

    def changed(self, node: Node, changes: Mapping[str, Any]) -> Node:
        """The same call as an operator node's, with some arguments, by the names of its schema, replaced."""
        args, kwargs = changed_arguments(node, changes)
        return self(node.target, *args, **kwargs)  # type: ignore[arg-type]

    def constant(self, tensor: torch.Tensor, name: str | None = None) -> Node:
        """A node that reads a constant tensor, registered as a weight."""
        key = self.rewriter.add_weight(name or f"constant.{self.anchor.name}", tensor)
        with self._before_anchor():
            node = self.rewriter.graph.create_node("get_attr", key)
        node.name = _unique(self.rewriter.graph, key.replace(".", "_"))
        return self._dress(node, fake_like(tensor))

    def _before_anchor(self) -> AbstractContextManager[None]:
        # FX would insert before an erased node too, and leave a graph that reads differently forwards and backwards.
        if self.anchor._erased:
            raise InvalidProgramError(
                f"{self.rewriter.made_by}: '{self.anchor.name}' is replaced already; make the new nodes before that"
            )
        return self.rewriter.graph.inserting_before(self.anchor)

    def _dress(self, node: Node, value: Any) -> Node:
        node.meta["val"] = value
        inherit(node, self.anchor, self.rewriter.made_by)
        self.rewriter._fresh.add(node)
        self.rewriter.changed = True
        return node


class UnwillingError(Exception):
    """An `Unwilling` emitter was asked to make a node."""


class Unwilling(Emitter):
    """An emitter that makes nothing, to find out whether it is asked to: then it raises `UnwillingError`."""

    def __init__(self, anchor: Node) -> None:
        self.anchor = anchor

    def __call__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
        """Make no node."""
        raise UnwillingError

    def constant(self, tensor: torch.Tensor, name: str | None = None) -> Node:
        """Make no constant."""
        raise UnwillingError

    def __getattr__(self, name: str) -> Any:
        """Without a graph to edit there is no `rewriter`."""
        raise UnwillingError


def _strides(value: Any) -> Any:
    """The strides of a tensor, or of each in a tuple; those of dimensions of extent 1 mean nothing."""
    if isinstance(value, (tuple, list)):
        return [_strides(item) for item in value]
    if not isinstance(value, torch.Tensor):
        return None
    return [stride for stride, extent in zip(value.stride(), value.shape, strict=True) if extent != 1]


def _short_name(target: Any) -> str:
    return target._schema.name.split("::")[-1].strip("_") if isinstance(target, OpOverload) else target.__name__


def _unique(graph: Graph, name: str) -> str:
    return graph._graph_namespace.create_name(name, None)

"""One graph in torch eager: its operators in order, every value forgotten after its last use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate, map_arg

from penstock.passes.core.program import attribute, placeholders, result_nodes
from penstock.passes.core.source import source_of

Observer = Callable[[Node, Any], None]


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands for a node in arguments: where its value is held."""

    index: int


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator.

    Attributes:
        is_flat: whether places stand among its positional arguments only, not inside of lists or keyword arguments.
        forgets: the places that nothing needs afterwards.
    """

    node: Node
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_flat: bool
    result: int
    forgets: tuple[int, ...]


class Eager:
    """A graph, ready to run many times; it must not change afterwards."""

    def __init__(self, module: GraphModule) -> None:
        nodes = [node for node in module.graph.nodes if node.op != "output"]
        place = {node: index for index, node in enumerate(nodes)}
        results = result_nodes(module)
        last = {used: node for node in nodes for used in (node, *node.all_input_nodes)}
        forgotten: dict[Node, list[int]] = {node: [] for node in nodes}
        for used, node in last.items():
            if used not in results:
                forgotten[node].append(place[used])
        self._held: list[Any] = [None] * len(nodes)
        for node in module.graph.find_nodes(op="get_attr"):
            self._held[place[node]] = attribute(module, str(node.target))
        self._arguments = [place[node] for node in placeholders(module)]
        self._unused = [place[node] for node in placeholders(module) if last[node] is node and node not in results]
        self._results = [place[node] for node in results]
        self._steps = [_step(node, place, tuple(forgotten[node])) for node in nodes if node.op == "call_function"]

    def run(self, args: list[Any], observe: Observer | None = None) -> list[torch.Tensor]:
        """The results.

        Args:
            args: one tensor per argument of the graph; the list is emptied, so that each dies after its last use.
            observe: called with each operator and what it made.
        """
        held: list[Any] = self._held.copy()
        for index, place in enumerate(self._arguments):
            held[place] = args[index]
        args.clear()
        for place in self._unused:
            held[place] = None
        for step in self._steps:
            if step.is_flat:
                found: Sequence[Any] = [held[each.index] if type(each) is _Place else each for each in step.args]
                named: Any = step.kwargs
            else:
                found, named = _filled((step.args, step.kwargs), held)
            try:
                value = held[step.result] = step.node.target(*found, **named)  # type: ignore[operator]
            except Exception as error:
                where = source_of(step.node)
                error.add_note(f"while running '{step.node.name}' ({step.node.target}){where and f' from {where}'}")
                raise
            if observe is not None:
                observe(step.node, value)
            found, named, value = (), None, None
            for place in step.forgets:
                held[place] = None
        return [held[place] for place in self._results]


def _step(node: Node, place: dict[Node, int], forgets: tuple[int, ...]) -> _Step:
    def placed(used: Node) -> Any:
        return _Place(place[used])

    args: Any = map_arg(node.args, placed)
    kwargs: Any = map_arg(node.kwargs, placed)
    nested: list[Node] = []
    map_arg(([each for each in node.args if not isinstance(each, Node)], node.kwargs), nested.append)
    return _Step(node, args, kwargs, not nested, place[node], forgets)


def _filled(given: Any, held: Sequence[Any]) -> Any:
    return map_aggregate(given, lambda each: held[each.index] if isinstance(each, _Place) else each)

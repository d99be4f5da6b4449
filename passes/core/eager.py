"""One graph in torch eager: its operators in order, every value forgotten after its last use.

A graph that runs in place writes results over operands that die (`penstock.passes.core.overwriting`), and takes kernels
that need less memory. What it makes of numbers alone, such as a ramp, is made on the device where it runs, whatever
device it had at capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate, map_arg

from penstock.passes.core.aliases import Buffer, buffer_of, buffers_of
from penstock.passes.core.arguments import changed_arguments
from penstock.passes.core.overwriting import out_variant, takeovers
from penstock.passes.core.program import attribute, placeholders, result_nodes
from penstock.passes.core.source import source_of

Observer = Callable[[Node, Any], None]
_CPU = torch.device("cpu")
aten = torch.ops.aten


def _convolution(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Any:
    """A 3-D convolution by the kernel that PyTorch has for large ones, whatever its size.

    For small ones on CPUs it has another. That unfolds its input, which takes several times its memory and up to ten
    times as long: a model might need more memory and more time in parts than whole.
    """
    has_one = input.device.type == "cpu" and input.dtype == torch.float32 and input.dim() == 5
    if not (has_one and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return aten.conv3d.default(input, weight, bias, stride, padding, dilation, groups)
    sizes = ([*each] * (3 // len(each)) for each in (padding, stride, dilation))
    return aten.mkldnn_convolution.default(input, weight, bias, *sizes, groups)


_WHATEVER_STRIDES: dict[Any, Callable[..., Any]] = {aten.view.default: aten.reshape.default}
"""Which strides a kernel gives its result is its own choice: on another device a view may have to be a copy."""
_IN_PLACE = {**_WHATEVER_STRIDES, aten.conv3d.default: _convolution}
"""What is called in a graph that is to spare memory; any other runs as in PyTorch, bit by bit."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands for a node in arguments: where its value is held."""

    index: int


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator.

    Attributes:
        target: what is called.
        is_flat: whether places stand among its positional arguments only, not inside of lists or keyword arguments.
        forgets: the places that nothing needs afterwards.
        over: the place of the operand that its result is written over; None for memory of its own.
    """

    node: Node
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_flat: bool
    result: int
    forgets: tuple[int, ...]
    over: int | None


class Eager:
    """A graph, ready to run many times; it must not change afterwards.

    Args:
        ours: the arguments, by index, that it may write over; None where it does not run in place.
        device: where its weights and arguments lie.
    """

    def __init__(
        self,
        module: GraphModule,
        ours: Set[int] | None = None,
        device: torch.device = _CPU,
    ) -> None:
        kernels = _WHATEVER_STRIDES if ours is None else _IN_PLACE
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
        over = {} if ours is None else _overwritten(module, ours)
        self._arguments = [place[node] for node in placeholders(module)]
        self._unused = [place[node] for node in placeholders(module) if last[node] is node and node not in results]
        self._results = [place[node] for node in results]
        self._copied = set() if ours is None else set(_shared(module, ours))
        self._steps = [
            _step(node, place, tuple(forgotten[node]), over.get(node), device, kernels.get(node.target, node.target))
            for node in nodes
            if node.op == "call_function"
        ]
        self._is_proved = not over  # that nobody else sees what is written over, whatever the schemas of operators say

    def run(self, args: list[Any], observe: Observer | None = None) -> list[torch.Tensor]:
        """The results.

        Args:
            args: one tensor per argument of the graph; the list is emptied, so that each dies after its last use.
            observe: called with each operator and what it made; then nothing is written over.
        """
        held: list[Any] = self._held.copy()
        for index, place in enumerate(self._arguments):
            held[place] = args[index]
        args.clear()
        for place in self._unused:
            held[place] = None
        for index, step in enumerate(self._steps):
            if step.over is not None and not self._is_proved and _is_seen(held, step.over, step.forgets):
                step = self._steps[index] = replace(step, over=None)
            _do(step, held, observe)
        self._is_proved |= observe is None
        return [
            held[place].clone() if index in self._copied else held[place] for index, place in enumerate(self._results)
        ]


def _do(step: _Step, held: list[Any], observe: Observer | None) -> None:
    if step.is_flat:
        found: Sequence[Any] = [held[each.index] if type(each) is _Place else each for each in step.args]
        named: Any = step.kwargs
    else:
        found, named = _filled((step.args, step.kwargs), held)
    target = step.target
    if step.over is not None and observe is None:
        target, named = out_variant(target), {**named, "out": held[step.over]}
    try:
        value = held[step.result] = target(*found, **named)
    except Exception as error:
        where = source_of(step.node)
        error.add_note(f"while running '{step.node.name}' ({step.node.target}){where and f' from {where}'}")
        raise
    if observe is not None:
        observe(step.node, value)
    found, named, value = (), None, None
    for place in step.forgets:
        held[place] = None


def _overwritten(module: GraphModule, ours: Set[int]) -> dict[Node, Node]:
    """The operators whose results are written over an operand, with that operand."""
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    buffers = buffers_of(module.graph)
    last: dict[Buffer, int] = {buffer: -1 for node in placeholders(module) for buffer in buffers[node]}
    for index, node in enumerate(nodes):
        last |= {buffer: index for used in (node, *node.all_input_nodes) for buffer in buffers[used]}
    kept = {Buffer(node) for index, node in enumerate(placeholders(module)) if index not in ours}
    kept |= {buffer for node in result_nodes(module) for buffer in buffers[node]}
    return takeovers(nodes, last, kept)


def _shared(module: GraphModule, ours: Set[int]) -> Iterator[int]:
    """The results, by index, that look into an argument of somebody else or into the memory of another result."""
    seen = {Buffer(node) for index, node in enumerate(placeholders(module)) if index not in ours}
    for index, node in enumerate(result_nodes(module)):
        buffer = buffer_of(node)
        if buffer in seen:
            yield index
        elif buffer is not None:
            seen.add(buffer)


def _is_seen(held: Sequence[Any], place: int, dying: Sequence[int]) -> bool:
    """Whether a value that stays looks into the memory of the one at a place."""
    memory = held[place].untyped_storage().data_ptr()
    return any(
        each.untyped_storage().data_ptr() == memory
        for index, value in enumerate(held)
        if index not in dying
        for each in (value if isinstance(value, (tuple, list)) else (value,))
        if isinstance(each, torch.Tensor)
    )


def on_device(node: Node, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The args and kwargs with which an operator makes its result on a device, where its arguments are."""
    is_asked = isinstance(node.target, OpOverload) and any(
        known.name == "device" for known in node.target._schema.arguments
    )
    return changed_arguments(node, {"device": device}) if is_asked else (node.args, dict(node.kwargs))


def _step(
    node: Node, place: dict[Node, int], forgets: tuple[int, ...], over: Node | None, device: torch.device, target: Any
) -> _Step:
    def placed(used: Node) -> Any:
        return _Place(place[used])

    node_args, node_kwargs = on_device(node, device)
    args: Any = map_arg(node_args, placed)
    kwargs: Any = map_arg(node_kwargs, placed)
    nested: list[Node] = []
    map_arg(([each for each in node_args if not isinstance(each, Node)], node_kwargs), nested.append)
    return _Step(node, target, args, kwargs, not nested, place[node], forgets, None if over is None else place[over])


def _filled(given: Any, held: Sequence[Any]) -> Any:
    return map_aggregate(given, lambda each: held[each.index] if isinstance(each, _Place) else each)

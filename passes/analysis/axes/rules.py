"""The table of rules: an operator, what to ask for each argument, and how to make a part of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node

from penstock.passes.analysis.axes.axis import Axis, Reach, WholeError
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.printer import op_name
from penstock.passes.core.shapes import value_of

Needs = Mapping[str, Reach | None]
"""For each tensor argument by its key: the reach along its axis; None where it is needed whole."""


@dataclass(frozen=True)
class Part:
    """One part of a result to be made.

    Attributes:
        node: the operator.
        axis: along which, of the whole result.
        low, high: the positions.
        padding: for each argument, how many positions of what it needs lie before and behind it.
    """

    node: Node
    axis: Axis
    low: int
    high: int
    padding: Mapping[str, tuple[int, int]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the part."""
        return self.axis.resized(tuple(value_of(self.node).shape), self.high - self.low)


Emit = Callable[..., Any]
"""Makes a node: ``emit(target, *args, **kwargs)``."""
Make = Callable[[Part, Emit, dict[str, Any]], Any]
"""Makes a part: from the part, an emitter and the operator's arguments by schema name, their tensors replaced by parts.
It may change the arguments, and returns the node, or None for the same operator on them."""


@dataclass(frozen=True)
class Rule:
    """What is known of an operator.

    Attributes:
        needs: raises `WholeError` or `CoarserError` where the result cannot be made in parts.
        make: None where only the tensors differ.
    """

    needs: Callable[[Node, Axis], Needs]
    make: Make | None = None


RULES: dict[OpOverload, Rule] = {}


def rule(*targets: OpOverload, make: Make | None = None) -> Callable[[Any], Any]:
    """Decorator of a function that gives the needs of these operators."""

    def take(needs: Callable[[Node, Axis], Needs]) -> Callable[[Node, Axis], Needs]:
        RULES.update(dict.fromkeys(targets, Rule(needs, make)))
        return needs

    return take


def inputs_of(node: Node) -> dict[str, Node]:
    """The tensor arguments of an operator by key: the schema's name, with ``.i`` for the items of a list.

    What is no operator, such as the choice of one of several results, has positions for keys.
    """
    if not isinstance(node.target, OpOverload):
        return {str(index): source for index, source in enumerate(node.all_input_nodes)}
    items = (item for name, value in arguments_of(node).items() for item in _items(name, value))
    return {key: item for key, item in items if isinstance(item, Node)}


def _items(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        return [(f"{name}.{index}", item) for index, item in enumerate(value)]
    return [(name, value)]


def rule_of(node: Node) -> Rule:
    """The rule of an operator.

    Raises:
        WholeError: it has none.
    """
    import penstock.passes.analysis.axes.rules_compute
    import penstock.passes.analysis.axes.rules_index
    import penstock.passes.analysis.axes.rules_layout  # noqa: F401 - all fill the table

    target = node.target
    found = RULES.get(target) if isinstance(target, OpOverload) else None
    if found is None and isinstance(target, OpOverload) and torch.Tag.pointwise in target.tags:
        found = RULES[torch.ops.aten.add.Tensor]
    if found is None or not isinstance(value_of(node), torch.Tensor):
        raise WholeError(f"{op_name(node)} has no rule")
    if not value_of(node).numel():
        raise WholeError(f"the result of {op_name(node)} is empty")
    return found


def reach(node: Node, axis: Axis) -> Needs:
    """What a part of the result along an axis needs of each tensor argument.

    Raises:
        WholeError: parts along this axis cannot be made on their own.
        CoarserError: only runs of positions can.
    """
    needs = rule_of(node).needs(node, axis)
    missing = inputs_of(node).keys() - needs.keys()
    return {**dict.fromkeys(missing), **needs}


def make_part(part: Part, emit: Emit, tensors: Mapping[str, Any]) -> Any:
    """Emit the operator for one part of its result.

    Args:
        tensors: for each tensor argument by its key, the positions that `reach` asks for, as far as they exist.
    """
    node = part.node
    arguments = {
        name: [tensors.get(f"{name}.{i}", item) for i, item in enumerate(value)]
        if isinstance(value, (list, tuple))
        else tensors.get(name, value)
        for name, value in arguments_of(node).items()
    }
    make = rule_of(node).make
    made = None if make is None else make(part, emit, arguments)
    if made is not None:
        return made
    assert isinstance(node.target, OpOverload)
    schema = node.target._schema.arguments
    positional = [arguments[known.name] for known in schema if not known.kwarg_only]
    named = {
        known.name: arguments[known.name]
        for known in schema
        if known.kwarg_only and arguments[known.name] != known.default_value
    }
    return emit(node.target, *positional, **named)


def crop(emit: Emit, tensor: Any, axis: Axis, extent: int, low: int, high: int) -> Any:
    """Positions low … high-1 of a tensor that has `extent` positions along an axis."""
    if (low, high) == (0, extent):
        return tensor
    aten = torch.ops.aten
    if axis.outer == 1:
        return emit(aten.slice.Tensor, tensor, axis.dim, low * axis.inner, high * axis.inner)
    shape = tuple(value_of(tensor).shape)
    split = emit(aten.reshape.default, tensor, axis.split(shape, extent))
    part = emit(aten.slice.Tensor, split, axis.dim + 1, low, high)
    return emit(aten.reshape.default, part, axis.resized(shape, high - low))


def join(emit: Emit, first: Any, second: Any, axis: Axis, extents: tuple[int, int]) -> Any:
    """The positions of one tensor along an axis, and behind them those of another."""
    aten = torch.ops.aten
    if axis.outer == 1:
        return emit(aten.cat.default, [first, second], axis.dim)
    shape = tuple(value_of(first).shape)
    split = [
        emit(aten.reshape.default, each, axis.split(shape, extent))
        for each, extent in zip((first, second), extents, strict=True)
    ]
    return emit(aten.reshape.default, emit(aten.cat.default, split, axis.dim + 1), axis.resized(shape, sum(extents)))

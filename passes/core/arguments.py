"""Reading and changing a node's arguments by the names of its operator's schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch._ops import OpOverload
from torch.fx import Node


def arguments_of(node: Node) -> dict[str, Any]:
    """The arguments of an operator node by schema name, defaults filled in.

    For ``conv2d(x, w)`` the result is ``{"input": x, "weight": w, "bias": None, "stride": [1, 1], …}``.
    """
    assert isinstance(node.target, OpOverload)
    found = {}
    for position, argument in enumerate(node.target._schema.arguments):
        if position < len(node.args):
            found[argument.name] = node.args[position]
        else:
            found[argument.name] = node.kwargs.get(argument.name, argument.default_value)
    return found


def changed_arguments(node: Node, changes: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The args and kwargs of an operator node with some arguments, by schema name, replaced.

    Keyword arguments that now equal their default are left out.
    """
    assert isinstance(node.target, OpOverload)
    schema = node.target._schema.arguments
    args = tuple(changes.get(known.name, value) for known, value in zip(schema, node.args, strict=False))
    kwargs = {known.name: changes.get(known.name, node.kwargs.get(known.name)) for known in schema[len(args) :]}
    given = {*node.kwargs, *changes}
    defaults = {known.name: known.default_value for known in schema}
    return args, {name: value for name, value in kwargs.items() if name in given and value != defaults[name]}

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
    """The args and kwargs of an operator node with some arguments, by schema name, replaced."""
    assert isinstance(node.target, OpOverload)
    names = [argument.name for argument in node.target._schema.arguments]
    args = tuple(changes.get(name, value) for name, value in zip(names, node.args, strict=False))
    rest = {name: value for name, value in changes.items() if name not in names[: len(args)]}
    return args, {**node.kwargs, **rest}

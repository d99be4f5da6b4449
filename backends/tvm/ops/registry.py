"""The lowering table and how a function enters it.

::

    @lowers(aten.rsub.Tensor, aten.rsub.Scalar)
    def rsub(emit: Emit, left: Value, right: Value, alpha: float = 1) -> Var:
        ...

A lowering gets an `Emit` and the arguments of the operator's schema in the schema's order, defaults filled in: a Relax
expression for each tensor, a list of them for a tensor list, numbers and None as they are. Arguments that only restate
the result (`dtype`, `device`, …) are left out: the result's shape and dtype are ``emit.shape`` and ``emit.dtype``. It
returns the result, or a sequence of results for an operator that yields a tuple.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from torch._ops import OpOverload
from torch.fx import Node

from penstock.passes.core.errors import InvalidProgramError

ENTRY_POINT_GROUP = "penstock.lowerings"

Lowering = Callable[..., Any]
Function = TypeVar("Function", bound=Lowering)

_TABLE: dict[Any, Lowering] = {}
_RESTATED = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "generator"})


class RefusalError(Exception):
    """An operator whose lowering does not take these arguments; `lower` reports it with the node and its source.

    Args:
        reason: what is not taken.
        advice: the nearest way out.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


def lowers(*operators: OpOverload) -> Callable[[Function], Function]:
    """Decorator: this function lowers these operators. Two functions for one operator are an error."""

    def register(function: Function) -> Function:
        for operator in operators:
            known = _TABLE.setdefault(operator, function)
            if known is not function:
                raise InvalidProgramError(
                    f"two lowerings for {operator}: {known.__module__}.{known.__qualname__} and "
                    f"{function.__module__}.{function.__qualname__}"
                )
        return function

    return register


def lowering_of(operator: Any) -> Lowering | None:
    """The function that lowers an operator, or None."""
    _discover()
    return _TABLE.get(operator)


def supported() -> frozenset[OpOverload]:
    """All operators that have a lowering."""
    _discover()
    return frozenset(_TABLE)


def arguments(node: Node, value_of: Callable[[Any], Any]) -> list[Any]:
    """The arguments of a node in its schema's order.

    Args:
        value_of: maps a node to its value; everything else is kept.
    """
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    filled: list[Any] = []
    for position, argument in enumerate(schema):
        if argument.name in _RESTATED:
            continue
        if position < len(node.args) and not argument.kwarg_only:
            value = node.args[position]
        else:
            value = node.kwargs.get(argument.name, argument.default_value)
        filled.append(_map(value, value_of))
    return filled


def _map(value: Any, value_of: Callable[[Any], Any]) -> Any:
    if isinstance(value, Node):
        return value_of(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_map(item, value_of) for item in value]
    return value


@cache
def _discover() -> None:
    package = importlib.import_module("penstock.backends.tvm.ops")
    for module in pkgutil.iter_modules(package.__path__, "penstock.backends.tvm.ops."):
        importlib.import_module(module.name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry.load()

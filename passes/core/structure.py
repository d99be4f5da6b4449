"""How the flat tensors of a Program's signature nest in the model's own arguments and results.

A structure is plain JSON data, so that an artifact can carry it::

    {"tensor": 0}                     leaf: the 0th flat tensor
    {"constant": 3}                   a value that was fixed at capture (int, float, bool, str or None)
    {"tuple": [ … ]}  {"list": [ … ]}  {"dict": {"name": … }}

Data classes and named containers that a model returns (``ModelOutput``) become plain dicts and tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from penstock.passes.core.errors import UsageError

Structure = dict[str, Any]


def structure_of(value: Any) -> Structure:
    """Describe a nest, numbering its tensors in order."""
    count = -1

    def walk(item: Any) -> Structure:
        nonlocal count
        if isinstance(item, torch.Tensor):
            count += 1
            return {"tensor": count}
        if item is None or isinstance(item, (bool, int, float, str)):
            return {"constant": item}
        if isinstance(item, Mapping):
            return {"dict": {str(key): walk(entry) for key, entry in item.items()}}
        if isinstance(item, list):
            return {"list": [walk(entry) for entry in item]}
        if isinstance(item, tuple):
            return {"tuple": [walk(entry) for entry in item]}
        raise UsageError(
            f"a model's arguments and results must be tensors, numbers, strings, None, tuples, lists and dicts; "
            f"found {type(item).__module__}.{type(item).__qualname__}. Wrap the model in a module that takes it apart."
        )

    return walk(value)


def leaves_of(value: Any) -> list[torch.Tensor]:
    """The tensors of a nest, in the order in which `structure_of` numbers them."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in leaves_of(item)]
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves_of(item)]
    return []


def rebuild(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The nest that `structure` describes, filled with `leaves`."""
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return leaves[content]
    if kind == "constant":
        return content
    if kind == "dict":
        return {key: rebuild(item, leaves) for key, item in content.items()}
    sequence = [rebuild(item, leaves) for item in content]
    return tuple(sequence) if kind == "tuple" else sequence


def match(structure: Structure, value: Any, accept: Callable[[Any], bool], path: str = "argument") -> list[Any]:
    """The leaves of `value` in signature order, after checking that it nests as `structure` says.

    Args:
        accept: whether an item counts as a tensor (a `torch.Tensor`, a numpy array, …).
        path: how to call the outermost item in an error.

    Raises:
        UsageError: the nest differs, or a value that was fixed at capture has changed.
    """
    ((kind, content),) = structure.items()
    if kind == "tensor":
        if not accept(value):
            raise UsageError(f"{path}: expected a tensor, got {type(value).__name__}")
        return [value]
    if kind == "constant":
        if value != content:
            raise UsageError(
                f"{path}: was {content!r} at capture and is part of the compiled graph, got {value!r}; "
                f"capture the model again with the new value"
            )
        return []
    if kind == "dict":
        if not isinstance(value, Mapping) or list(map(str, value)) != list(content):
            raise UsageError(f"{path}: expected the keys {list(content)}, got {_kind(value)}")
        return [leaf for key, item in content.items() for leaf in match(item, value[key], accept, f"{path}[{key!r}]")]
    if not isinstance(value, (tuple, list)) or len(value) != len(content):
        raise UsageError(f"{path}: expected {len(content)} item(s), got {_kind(value)}")
    return [
        leaf
        for index, (item, entry) in enumerate(zip(content, value, strict=True))
        for leaf in match(item, entry, accept, f"{path}[{index}]")
    ]


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"the keys {list(value)}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)}"
    return type(value).__name__

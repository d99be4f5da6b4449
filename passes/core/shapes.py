"""Shapes and dtypes without data: the one fake-tensor mode that all graphs of this process share.

Every node of a Program carries ``node.meta["val"]``: a fake tensor (shape, dtype, strides, no storage), or a tuple of
them. Because all of them belong to one mode, any node of any graph may be fed to any operator to infer a new shape.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map

FAKE_MODE = FakeTensorMode(allow_non_fake_inputs=True)


def fake_like(value: Any) -> Any:
    """The same nest with every tensor replaced by a fake one of the same shape, dtype and strides."""

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if isinstance(leaf, FakeTensor) and leaf.fake_mode is FAKE_MODE:
            return leaf.detach() if leaf.requires_grad else leaf
        with FAKE_MODE:
            return torch.empty_strided(leaf.size(), leaf.stride(), dtype=leaf.dtype, device="cpu")

    return tree_map(one, value)


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether a tensor has a shape but no data."""
    return isinstance(tensor, FakeTensor)


def value_of(node: Node) -> Any:
    """The fake value of a node: a tensor or a tuple of tensors."""
    return node.meta["val"]


def tensor_of(node: Node) -> torch.Tensor:
    """The fake tensor of a node that yields exactly one tensor."""
    value = node.meta["val"]
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"node '{node.name}' yields {type(value).__name__}, expected one tensor")
    return value


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of a node that yields exactly one tensor."""
    return tuple(tensor_of(node).shape)


def dtype_of(node: Node) -> torch.dtype:
    """The dtype of a node that yields exactly one tensor."""
    return tensor_of(node).dtype


def infer(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The fake result of calling `target` on nodes and constants; raises what the operator raises.

    It is found once for all operands of the same form: graphs of parts are much alike.
    """
    given = tuple(args), dict(kwargs)
    key = target, repr(map_arg(given, _described))
    if key not in _INFERRED:
        if len(_INFERRED) > _MOST:
            _INFERRED.clear()
        fake_args, fake_kwargs = tree_map(lambda leaf: leaf.meta["val"] if isinstance(leaf, Node) else leaf, given)
        with FAKE_MODE, torch.no_grad():
            _INFERRED[key] = target(*fake_args, **fake_kwargs)
    return _INFERRED[key]


_INFERRED: dict[Hashable, Any] = {}
_MOST = 100_000


def _described(node: Node) -> Any:
    return tree_map(_form, node.meta["val"])


def _form(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    memory = leaf.storage_offset(), leaf.untyped_storage().nbytes()
    return "tensor", tuple(leaf.shape), leaf.stride(), *memory, leaf.dtype, leaf.device


def nbytes(value: Any) -> int:
    """Bytes of a tensor or a nest of tensors, counted dense: shape times element size."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (tuple, list)):
        return sum(nbytes(item) for item in value)
    return 0


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """``torch.float32`` for ``float32``; raises `KeyError` for an unknown name."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise KeyError(name)
    return dtype

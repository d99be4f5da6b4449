"""What is left of a graph without its weights and names: the same for all blocks of a model."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx.node import map_arg


def skeleton_of(module: GraphModule) -> Hashable:
    """Operators, arguments, shapes and dtypes of a graph, but no weights and no names."""
    place = {node: index for index, node in enumerate(module.graph.nodes)}
    rows: list[Any] = []
    for node in module.graph.nodes:
        value = node.meta.get("val")
        size = (tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else None
        target = node.target if node.op == "call_function" else None
        rows.append((node.op, target, repr(map_arg((node.args, node.kwargs), place.__getitem__)), size))
    return tuple(rows)

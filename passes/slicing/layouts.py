"""Elementwise operators behind the views that follow them, where the views undo earlier ones.

A loop stores its results dense, in the order of their dimensions. A block that works across frames, say, puts the
dimensions of its input in another order and, after its residual sum, back again. With the sum behind the way back, its
result is stored in the order of the input, so it may lie where the input dies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import map_arg

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import shape_of, value_of

aten = torch.ops.aten
_RESHAPES = (aten.view.default, aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dims, aten.squeeze.dim)


def stored_as_read(edit: Rewriter) -> None:
    """Move elementwise operators behind the views that follow them, where an operand was seen through the inverse."""
    for node in edit.nodes():
        views = _views_behind(node)
        if views and _undo(views, node):
            for view in views:
                node = _moved(edit, node, view)


def _views_behind(node: Node) -> list[Node]:
    """The views through which alone an elementwise operator's result is looked at, in order."""
    views: list[Node] = []
    if _is_movable(node):
        at = node
        while len(at.users) == 1 and _order(view := next(iter(at.users))) is not None and shape_of(view):
            views.append(view)
            at = view
    return views


def _views_before(value: Node) -> list[Node]:
    """The views through which a value looks into another one, in order."""
    views: list[Node] = []
    at: Any = value
    while isinstance(at, Node) and _order(at) is not None:
        views.insert(0, at)
        at = at.args[0]
    return views


def _undo(views: list[Node], node: Node) -> bool:
    """Whether some operand, through elementwise operators of its own, is seen through the inverse of some views."""
    back = _order_of(views)
    if back == sorted(back):
        return False
    waiting, met = [node], {node}
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source in met or shape_of(source) != shape_of(node):
                continue
            met.add(source)
            there = _views_before(source)
            if there and [_order_of(there)[place] for place in back] == sorted(back):
                return True
            if _is_pointwise(source) and len(source.users) == 1:
                waiting.append(source)
    return False


def _moved(edit: Rewriter, node: Node, view: Node) -> Node:
    """The operator behind a view that follows it."""
    emit = edit.at(view)
    operands = [source for source in node.all_input_nodes if shape_of(source) == shape_of(node)]
    seen = {source: emit(view.target, source, *view.args[1:], **view.kwargs) for source in operands}  # type: ignore[arg-type]
    args, kwargs = map_arg((node.args, node.kwargs), lambda source: seen.get(source, source))
    made = emit(node.target, *args, **kwargs)  # type: ignore[arg-type]
    edit.replace(view, made)
    edit.graph.erase_node(node)
    return made


def _is_pointwise(node: Node) -> bool:
    tags = node.target.tags if isinstance(node.target, OpOverload) else ()
    return torch.Tag.pointwise in tags and isinstance(value_of(node), torch.Tensor)


def _is_movable(node: Node) -> bool:
    """Whether each position of a result comes from the same positions of the operands, or from their only one."""
    if not _is_pointwise(node):
        return False
    others = [shape_of(source) for source in node.all_input_nodes if shape_of(source) != shape_of(node)]
    return all(len(shape) <= 1 and math.prod(shape) == 1 for shape in others)


def _order_of(views: list[Node]) -> list[int]:
    """In which order some views, one after the other, put the dimensions with more than one position."""
    order = list(range(sum(extent != 1 for extent in shape_of(views[0]))))
    for view in views:
        order = [order[place] for place in _order(view) or ()]
    return order


def _order(view: Node) -> list[int] | None:
    """Likewise for one view; None where it is no such view."""
    source = view.args[0] if view.op == "call_function" and view.args else None
    if not isinstance(source, Node) or view.target not in (*_RESHAPES, aten.permute.default):
        return None
    before = [dim for dim, extent in enumerate(shape_of(source)) if extent != 1]
    if view.target is aten.permute.default:
        dims: Sequence[int] = arguments_of(view)["dims"]
        return [before.index(place) for dim in dims if (place := dim % len(dims)) in before]
    after = [extent for extent in shape_of(view) if extent != 1]
    return list(range(len(before))) if after == [shape_of(source)[dim] for dim in before] else None

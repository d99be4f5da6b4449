"""The copies that kernels make of views, written as operators, so that they are planned and made in parts as well.

Heads that queries share are repeated. A result of the graph has memory of its own, so one that shows a part of a value
copies it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from penstock.passes.core.aliases import buffer_of, is_view
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.heads import repeat_heads
from penstock.passes.core.ops import ATTENTION
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import nbytes, shape_of, value_of
from penstock.passes.slicing.dense import DenseViews

aten = torch.ops.aten


def with_copies(module: GraphModule) -> GraphModule:
    """The graph with a `clone` of each view that kernels copy; whatever reads the view later reads the same copy."""
    edit = Rewriter(module, made_by="feature-slicing")
    for node in edit.nodes(aten.scaled_dot_product_attention.default):
        _share_heads(edit, node)
    views = DenseViews()
    output = edit.graph.output_node()
    copied = [(node, view) for node in edit.nodes() for view in views.copied(node)]
    copied += [(output, result) for result in output.all_input_nodes if _is_part(views, result)]
    order = {node: place for place, node in enumerate(edit.graph.nodes)}
    for node, view in copied:
        if view not in node.all_input_nodes:
            continue  # it reads the copy that was made for one before it
        copy = edit.at(node)(aten.clone.default, view, memory_format=torch.contiguous_format)
        for reader in list(view.users):
            follows = order.get(reader, -1) > order[node]
            if reader is node or (follows and reader.target not in ATTENTION):
                reader.replace_input_with(view, copy)
    return edit.finish() if edit.changed else module


def _share_heads(edit: Rewriter, node: Node) -> None:
    """Let attention have keys and values of its own for every head of the queries."""
    held, emit = arguments_of(node), edit.at(node)
    *lead, _, _ = shape_of(node)
    changes: dict[str, Any] = {"enable_gqa": False} if held["enable_gqa"] else {}
    for name in ("key", "value"):
        own = repeat_heads(emit, held[name], lead[-1]) if held["enable_gqa"] else held[name]
        if list(shape_of(own)[:-2]) != lead:
            own = emit(aten.expand.default, own, [*lead, *shape_of(own)[-2:]])
        if own is not held[name]:
            changes[name] = own
    if changes:
        edit.replace(node, emit.changed(node, changes))


def _is_part(views: DenseViews, result: Node) -> bool:
    buffer = buffer_of(result)
    if buffer is None or result.op != "call_function" or not is_view(result):
        return False
    return buffer.bytes > nbytes(value_of(result)) or not views.lies_dense(result)

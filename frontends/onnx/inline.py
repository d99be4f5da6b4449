"""Replacing function calls by their bodies: the model's own functions, and operators that ONNX defines by simpler ones."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import ModelProto

from penstock.frontends.onnx.registry import find_operator

CONTROL_FLOW = ("If", "Loop", "Scan")
_LARGEST_DEPTH = 8


def inline_functions(model: ModelProto) -> ModelProto:
    """The model without local functions, and without operators that the table lacks but ONNX defines by others.

    The model itself is not changed.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    for _ in range(_LARGEST_DEPTH):
        lacking = _lacking_but_defined(model)
        if not lacking:
            break
        model = onnx.inliner.inline_selected_functions(model, lacking, inline_schema_functions=True)
    return model


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of all graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def _lacking_but_defined(model: ModelProto) -> list[tuple[str, str]]:
    opsets = {item.domain: item.version for item in model.opset_import}
    found: dict[tuple[str, str], None] = {}
    for node in all_nodes(model.graph):
        opset = opsets.get(node.domain, 0)
        if node.op_type in CONTROL_FLOW or not onnx.defs.has(node.op_type, opset, node.domain):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        defined = schema.has_function or schema.has_context_dependent_function
        if defined and find_operator(node.domain, node.op_type, opset) is None:
            found[node.domain, node.op_type] = None
    return list(found)

"""Replacing calls by bodies: the model's own functions, and operators that ONNX defines by simpler ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import ModelProto, defs, helper, inliner, shape_inference

from penstock.frontends.onnx import sequences
from penstock.frontends.onnx.read import opsets_of
from penstock.frontends.onnx.registry import find_operator

Operator = tuple[str, str]  # domain and name


def inline_functions(model: ModelProto) -> ModelProto:
    """The model without local functions, and without operators that the table lacks but ONNX defines by others.

    An operator stays if its definition needs operators that the table lacks in turn. The model itself is not changed.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    tried: set[Operator] = set()
    while todo := sorted(item for item in _lacking(model) - tried if _is_defined(item, model)):
        tried.add(todo[0])
        inlined = _inlined(model, todo[0])
        added = _lacking(inlined) - _lacking(model)
        if all(_is_defined(operator, model) for operator in added):
            model = inlined
    return model


def is_supported(domain: str, name: str, opset: int) -> bool:
    """Whether the importer takes an operator: by the table, as a sequence operator, or as a branch."""
    if not domain and name in ("If", *sequences.OPERATORS):
        return True
    return find_operator(domain, name, opset) is not None


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of all graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def _lacking(model: ModelProto) -> set[Operator]:
    """The operators of a model that the table lacks."""
    opsets = opsets_of(model)
    used = {(node.domain, node.op_type) for node in all_nodes(model.graph)}
    return {(domain, name) for domain, name in used if not is_supported(domain, name, opsets.get(domain, 0))}


def _is_defined(operator: Operator, model: ModelProto) -> bool:
    """Whether ONNX defines an operator by others."""
    domain, name = operator
    opset = opsets_of(model).get(domain, 0)
    if not defs.has(name, opset, domain):
        return False
    schema: Any = defs.get_schema(name, opset, domain)
    return bool(schema.has_function or schema.has_context_dependent_function)


def _inlined(model: ModelProto, operator: Operator) -> ModelProto:
    """The model with all calls of one operator replaced by its definition; the same one where ONNX cannot do it.

    ONNX's inliner needs the types of all values, and forgets the defaults of attributes: both are written out first.
    """
    domain, name = operator
    ready = shape_inference.infer_shapes(model)
    for tensor in ready.graph.initializer:
        ready.graph.value_info.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    schema: Any = defs.get_schema(name, opsets_of(model)[domain], domain)
    defaults = {key: item.default_value for key, item in schema.attributes.items() if item.default_value.name}
    for node in all_nodes(ready.graph):
        if (node.domain, node.op_type) == operator:
            given = {attribute.name for attribute in node.attribute}
            node.attribute.extend(value for key, value in defaults.items() if key not in given)
    try:
        return inliner.inline_selected_functions(ready, [operator], inline_schema_functions=True)
    except RuntimeError:
        return model

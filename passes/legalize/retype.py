"""Changing the dtype of everything in a Program that has a given dtype."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves, tree_map

from penstock.passes.core.program import Program, TensorSpec
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import fake_like, infer

Dtypes = Mapping[torch.dtype, torch.dtype]


def retype(program: Program, dtypes: Dtypes, made_by: str) -> Program:
    """The Program with inputs, weights, values and outputs of one dtype in another; the same object if it has none.

    Args:
        dtypes: from the old to the new dtype. A finite number that the new dtype cannot hold becomes its largest one.
        made_by: the pass that asks.
    """
    weights: dict[int, torch.Tensor] = {}
    graphs = {
        name: _retype_graph(module, name, dtypes, weights, made_by)
        for name, module in program.graphs.items()
        if _has(module, dtypes)
    }
    if not graphs:
        return program
    signature = dataclasses.replace(
        program.signature,
        inputs=tuple(_retype_spec(spec, dtypes) for spec in program.signature.inputs),
        outputs=tuple(_retype_spec(spec, dtypes) for spec in program.signature.outputs),
    )
    examples = tuple(_retype_tensor(tensor, dtypes) for tensor in program.examples)
    return dataclasses.replace(program.with_graphs(**graphs), signature=signature, examples=examples)


def _has(module: GraphModule, dtypes: Dtypes) -> bool:
    values = tree_leaves([node.meta.get("val") for node in module.graph.nodes])
    return any(isinstance(value, torch.Tensor) and value.dtype in dtypes for value in values)


def _retype_spec(spec: TensorSpec, dtypes: Dtypes) -> TensorSpec:
    return dataclasses.replace(spec, dtype=dtypes.get(spec.dtype, spec.dtype))


def _retype_tensor(tensor: torch.Tensor, dtypes: Dtypes) -> torch.Tensor:
    if tensor.dtype not in dtypes:
        return tensor
    with torch.no_grad():
        new = _saturated(tensor, dtypes[tensor.dtype])
    return torch.nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else new


def _saturated(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in `dtype`, with finite values kept finite."""
    limits = torch.finfo(dtype)
    if torch.finfo(tensor.dtype).max <= limits.max or dtype.is_complex:
        return tensor.to(dtype)
    held = tensor.double().clamp(limits.min, limits.max)
    return torch.where(tensor.isinf(), tensor.double(), held).to(dtype)


def _retype_graph(
    module: GraphModule, name: str, dtypes: Dtypes, weights: dict[int, torch.Tensor], made_by: str
) -> GraphModule:
    """One graph, edited in a copy. `weights` holds the new weights of all graphs by the identity of the old ones."""
    edit = Rewriter(module, made_by)
    for key, tensor in edit.weights.items():
        edit.weights[key] = weights.setdefault(id(tensor), _retype_tensor(tensor, dtypes))
    for node in edit.graph.nodes:
        if node.op == "placeholder":
            node.meta["val"] = fake_like(_retype_tensor(node.meta["val"], dtypes))
        elif node.op == "get_attr":
            node.meta["val"] = fake_like(edit.weights[str(node.target)])
        elif node.op == "call_function":
            node.args, node.kwargs = _retype_arguments(node, dtypes)
            node.meta["val"] = infer(node.target, node.args, node.kwargs)
    return edit.finish(name)


def _retype_arguments(node: Node, dtypes: Dtypes) -> tuple[Any, Any]:
    """The arguments of a node with the new dtypes, and with numbers that those can hold."""
    value = node.meta["val"]
    limits = None
    if isinstance(value, torch.Tensor) and value.dtype.is_floating_point and value.dtype in dtypes:
        limits = torch.finfo(dtypes[value.dtype])

    def one(leaf: Any) -> Any:
        if isinstance(leaf, torch.dtype):
            return dtypes.get(leaf, leaf)
        if isinstance(leaf, float) and limits is not None and abs(leaf) != float("inf"):
            return min(max(leaf, limits.min), limits.max)
        return leaf

    return tree_map(one, (node.args, node.kwargs))  # type: ignore[no-any-return]

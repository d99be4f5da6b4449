"""Weights as GPU kernels read them: output channels last, so that a thread loads several of them at once.

A weight of a linear layer is stored [out, in], one of a convolution [out, in, *kernel]. The sums of neighbouring output
channels use the same inputs, so what a kernel wants side by side lies apart. Here such a weight is stored in another
order, and the graph permutes it back, which a lowering that wants that very order undoes (`Emit.in_order`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.program import Program, attribute
from penstock.passes.core.rewriter import Emitter, Rewriter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten
_SUFFIX = ".packed"
_CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)


def outputs_last(operator: Any, rank: int) -> tuple[int, ...] | None:
    """The order in which a kernel reads an operator's weight; None where it reads it as it is."""
    if operator is aten.linear.default and rank == 2:
        return (1, 0)
    return (*range(2, rank), 1, 0) if operator in _CONVOLUTIONS else None


def pack_weights(program: Program) -> Program:
    """The Program with the weights of linear layers and convolutions stored in the order of `outputs_last`.

    An embedding whose table is such a weight reads its columns. A weight that anything else reads too stays, since it
    would have to be kept twice.
    """
    orders = _orders(program)
    packed: dict[str, torch.Tensor] = {}
    graphs = {}
    for name, module in program.graphs.items():
        edit = Rewriter(module, made_by="pack-weights")
        for node in edit.nodes():
            weight = _weight(node) or _table(node)
            order = None if weight is None else orders.get(str(weight.target))
            if weight is None or order is None:
                continue
            key = str(weight.target)
            if key not in packed:
                packed[key] = attribute(module, key).permute(order).contiguous()
            emit = edit.at(node)
            held = emit.constant(packed[key], key + _SUFFIX)
            if node.target is aten.embedding.default:
                edit.replace(node, _looked_up(emit, held, node))
                continue
            inverse = [order.index(dim) for dim in range(len(order))]
            edit.replace(node, emit.changed(node, {"weight": emit(aten.permute.default, held, inverse)}))
        graphs[name] = edit.finish() if edit.changed else module
    return program.with_graphs(**graphs)


def _orders(program: Program) -> dict[str, tuple[int, ...]]:
    """For every weight that all its users want in one order, but for embeddings: that order."""
    wanted: dict[str, set[tuple[int, ...] | None]] = {}
    for module in program.graphs.values():
        for held in module.graph.find_nodes(op="get_attr"):
            for user in held.users:
                if _table(user) is held:
                    continue
                rank = attribute(module, str(held.target)).dim()
                order = outputs_last(user.target, rank) if _weight(user) is held else None
                wanted.setdefault(str(held.target), set()).add(order)
    return {name: order for name, (order, *rest) in wanted.items() if order is not None and not rest}


def _table(node: Node) -> Node | None:
    """The table of an embedding, if it is one of the model's."""
    table = arguments_of(node)["weight"] if node.target is aten.embedding.default else None
    return table if isinstance(table, Node) and table.op == "get_attr" else None


def _looked_up(emit: Emitter, columns: Node, node: Node) -> Node:
    """An embedding of a table that is stored [width, rows]."""
    positions: Node = arguments_of(node)["indices"]
    found = emit(aten.index_select.default, columns, 1, emit(aten.reshape.default, positions, [-1]))
    return emit(aten.reshape.default, emit(aten.permute.default, found, [1, 0]), list(shape_of(node)))


def _weight(node: Node) -> Node | None:
    """The weight of a linear layer or a convolution, if it is one of the model's and nothing else of the node is it."""
    if node.op != "call_function" or outputs_last(node.target, 2) is None:
        return None
    weight: Node = arguments_of(node)["weight"]
    if weight.op != "get_attr" or sum(used is weight for used in node.args) != 1:
        return None
    return weight

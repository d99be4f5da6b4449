"""Rules of operators that read and write at positions that a tensor holds."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes.axis import Axis, Reach, WholeError
from penstock.passes.analysis.axes.rules import Needs, inputs_of, rule
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten


@rule(aten.embedding.default)
def _embedding(node: Node, axis: Axis) -> Needs:
    if axis.dim == len(shape_of(node)) - 1:
        return {"weight": Reach(axis.at(1))}
    return {"indices": Reach(axis)}


@rule(aten.index_select.default)
def _index_select(node: Node, axis: Axis) -> Needs:
    if arguments_of(node)["dim"] % len(shape_of(node)) == axis.dim:
        return {"index": Reach(axis.at(0))}
    return {"self": Reach(axis)}


@rule(aten.gather.default)
def _gather(node: Node, axis: Axis) -> Needs:
    if _dim(node) == axis.dim:
        return {"index": Reach(axis)}
    source = shape_of(inputs_of(node)["self"])[axis.dim]
    if source == axis.extent:
        return {"self": Reach(axis), "index": Reach(axis)}
    if axis.outer != 1 or source % axis.inner:
        raise WholeError("it reads the first of more positions")
    return {"self": Reach(Axis(axis.dim, 1, source // axis.inner, axis.inner)), "index": Reach(axis)}


@rule(aten.index.Tensor)
def _index(node: Node, axis: Axis) -> Needs:
    positions = _positions(node)
    source_rank, rank = len(shape_of(inputs_of(node)["self"])), len(shape_of(node))
    front, width = _indexed(positions, source_rank - len(positions), rank)
    if not front <= axis.dim < front + width:
        return {"self": Reach(axis.at(_kept(positions, source_rank)[axis.dim - width * (axis.dim >= front)]))}
    needs: dict[str, Reach | None] = {}
    for dim, tensor in positions.items():
        held = shape_of(tensor)
        here = axis.dim - front - (width - len(held))
        if here >= 0 and held[here] == axis.extent:
            needs[f"indices.{dim}"] = Reach(axis.at(here))
    return needs


@rule(aten.index_put.default)
def _index_put(node: Node, axis: Axis) -> Needs:
    positions, rank = _positions(node), len(shape_of(node))
    if axis.dim in positions:
        raise WholeError("its positions are written to in any order")
    values = shape_of(inputs_of(node)["values"])
    widest = max(len(shape_of(tensor)) for tensor in positions.values())
    written = rank - len(positions) + widest  # the rank of what is written, to which values broadcast
    front, width = _indexed(positions, rank - len(positions), written)
    place = _kept(positions, rank).index(axis.dim)
    dim = place + width * (place >= front) - (written - len(values))
    needs: dict[str, Reach | None] = {"self": Reach(axis)}
    if dim >= 0 and values[dim] == axis.extent:
        needs["values"] = Reach(axis.at(dim))
    return needs


def _positions(node: Node) -> dict[int, Node]:
    """The tensors of positions by the dimension that they index."""
    found = {dim: tensor for dim, tensor in enumerate(arguments_of(node)["indices"]) if tensor is not None}
    if not found or any(dtype_of(tensor) in (torch.bool, torch.uint8) for tensor in found.values()):
        raise WholeError("it is indexed by a mask")
    return found


def _indexed(positions: dict[int, Node], kept: int, rank: int) -> tuple[int, int]:
    """Where in the result the dimensions of the positions stand, and how many they are.

    Args:
        kept: how many dimensions are not indexed.
        rank: of the result.
    """
    dims = list(positions)
    neighbours = dims == list(range(dims[0], dims[-1] + 1))
    return dims[0] if neighbours else 0, rank - kept


def _kept(positions: dict[int, Node], rank: int) -> list[int]:
    return [dim for dim in range(rank) if dim not in positions]


@rule(aten.scatter.src, aten.scatter.value, aten.scatter_add.default)
def _scatter(node: Node, axis: Axis) -> Needs:
    if _dim(node) == axis.dim:
        raise WholeError("its positions are written to in any order")
    needs = {key: Reach(axis) for key in inputs_of(node)}
    if any(shape_of(source)[axis.dim] != axis.extent for source in inputs_of(node).values()):
        raise WholeError("it writes to the first of more positions")
    return needs


def _dim(node: Node) -> int:
    dim: Any = arguments_of(node)["dim"]
    return int(dim) % max(1, len(shape_of(node)))

"""Reading at positions that a tensor holds.

No kernel reads out of bounds, whatever the positions: negative ones count from the end, and the rest is clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.emit import INJECTIVE, Emit, Expr, Var, axis, broadcast_read, dtype_of, shape_of
from penstock.backends.tvm.ops.registry import RefusalError, lowers
from penstock.backends.tvm.panels import Panels

aten = torch.ops.aten


def in_range(position: Any, extent: int) -> Any:
    """A TIR integer as a position of a dimension: negative ones count from the end, then it is clipped."""
    position = position.astype("int64")
    position = tirx.if_then_else(position < 0, position + extent, position)
    return tirx.max(tirx.min(position, extent - 1), 0)


@lowers(aten.embedding.default)
def embedding(emit: Emit, table: Expr, positions: Expr, *_: Any) -> Var:
    """Rows of a table, which may be packed as the weight of a linear layer."""
    if emit.panels is None:
        return take(emit, table, positions, 0, "embedding")
    (rows, depth), width = shape_of(table), len(shape_of(positions))
    panels = Panels.current()
    assert panels is not None

    def compute(packed: te.Tensor, at: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            return packed(panels.place(rows, depth, in_range(at(*i[:width]), rows), i[width]))

        return te.compute(emit.shape, element, name="embedding")

    return emit.te(compute, emit.panels, positions, name="embedding", op_pattern=INJECTIVE)


@lowers(aten.index_select.default)
def index_select(emit: Emit, x: Expr, dim: int, positions: Expr) -> Expr:
    """Positions of one dimension, listed by a vector."""
    rank = len(shape_of(x))
    source = x if rank else emit.reshape(x, (1,))
    taken = take(emit, source, emit.reshape(positions, (_count(positions),)), axis(dim, rank), "index_select")
    return emit.reshape(taken, emit.shape)


def take(emit: Emit, x: Expr, positions: Expr, dim: int, name: str) -> Var:
    """The tensor with one dimension replaced by those of `positions`, each holding what stands there."""
    extent, width = shape_of(x)[dim], len(shape_of(positions))
    shape = (*shape_of(x)[:dim], *shape_of(positions), *shape_of(x)[dim + 1 :])

    def compute(source: te.Tensor, at: te.Tensor) -> te.Tensor:
        return te.compute(
            shape,
            lambda *i: source(*i[:dim], in_range(at(*i[dim : dim + width]), extent), *i[dim + width :]),
            name=name,
        )

    return emit.te(compute, x, positions, name=name, op_pattern=INJECTIVE)


@lowers(aten.gather.default)
def gather(emit: Emit, x: Expr, dim: int, positions: Expr, sparse_grad: bool = False) -> Expr:
    """Along one dimension, for each element of `positions`, the element that stands there."""
    rank = len(shape_of(x))
    return gather_along(emit, x, positions, axis(dim, rank)) if rank else emit.reshape(x, emit.shape)


def gather_along(emit: Emit, x: Expr, positions: Expr, dim: int) -> Var:
    """`gather` of a tensor of rank 1 or more, along a dimension counted from the front."""
    extent, shape = shape_of(x)[dim], shape_of(positions)

    def compute(source: te.Tensor, at: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            return source(*i[:dim], in_range(broadcast_read(at, i), extent), *i[dim + 1 :])

        return te.compute(shape, element, name="gather")

    return emit.te(compute, x, emit.unrepeated(positions), name="gather", op_pattern=INJECTIVE)


@lowers(aten.index.Tensor)
def index(emit: Emit, x: Expr, positions: Sequence[Expr | None]) -> Var:
    """Several dimensions at once by tensors that broadcast together; None keeps a dimension whole.

    As in numpy, the broadcast dimensions stand where the indexed ones stood when those are neighbours, else in front.
    """
    by_dim = indexed_dims(positions)
    dims = list(by_dim)
    width = max(len(shape_of(tensor)) for tensor in by_dim.values())
    extents = shape_of(x)
    neighbours = dims == list(range(dims[0], dims[-1] + 1))
    front = dims[0] if neighbours else 0

    def compute(source: te.Tensor, *tensors: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            common = i[front : front + width]
            whole = iter((*i[:front], *i[front + width :]))
            at = dict(zip(dims, tensors, strict=True))
            return source(
                *(
                    in_range(broadcast_read(at[d], common), extents[d]) if d in at else next(whole)
                    for d in range(len(extents))
                )
            )

        return te.compute(emit.shape, element, name="index")

    return emit.te(compute, x, *by_dim.values(), name="index", op_pattern=INJECTIVE)


def indexed_dims(positions: Sequence[Expr | None]) -> dict[int, Expr]:
    """The index tensors by the dimension they index; masks are refused, as their result has no static shape."""
    by_dim = {dim: tensor for dim, tensor in enumerate(positions) if tensor is not None}
    for tensor in by_dim.values():
        if dtype_of(tensor) in ("bool", "uint8"):
            raise RefusalError(
                "indexing by a mask, whose result has no static shape",
                "use torch.where(mask, a, b) or a multiplication by the mask",
            )
    return by_dim


def _count(positions: Expr) -> int:
    return shape_of(positions)[0] if shape_of(positions) else 1

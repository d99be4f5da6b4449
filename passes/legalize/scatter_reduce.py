"""Scatter with a reduction, as a product with a matrix of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of
from penstock.passes.legalize.dimensions import positive

aten = torch.ops.aten

_DENSE: dict[str, Any] = {"amax": aten.amax.default, "amin": aten.amin.default, "prod": aten.prod.dim_int}
_COMBINE: dict[str, Any] = {
    "sum": aten.add.Tensor,
    "mean": aten.add.Tensor,
    "prod": aten.mul.Tensor,
    "amax": aten.maximum.default,
    "amin": aten.minimum.default,
}


@register
@dataclass(frozen=True)
class ScatterReduceToMatmul(RewritePass):
    """Write `scatter_reduce` as a comparison of places followed by a dense reduction.

    What: ``hit[n, m]`` says whether source element `m` goes to place `n`. A sum is then ``hit @ source``, a mean
    divides it by the hits per place, and an extremum or a product reduces ``where(hit, source, neutral)`` over `m`.
    Where the index was made by `expand`, as token merging makes it, `hit` is built before the expansion: its size is
    (places · sources) per batch, not per channel. Nothing is written at computed addresses, so no atomics are needed.

    Given (index i64[2, 3, 1], expanded; source f32[2, 3, 8])::

        merged = scatter_reduce.two(x, 1, expand, source, sum)                   f32[2, 5, 8]

    Result::

        merged_transpose = transpose.int(index, 1, 2)                            i64[2, 1, 3]
        merged_arange = arange.start_step(0, 5, dtype=int64)                     i64[5]
        merged_view = view(merged_arange, [5, 1])                                i64[5, 1]
        merged_eq = eq(merged_transpose, merged_view)                            bool[2, 5, 3]
        merged_to_copy = _to_copy(merged_eq, dtype=float32)                      f32[2, 5, 3]
        merged_matmul = matmul(merged_to_copy, source)                           f32[2, 5, 8]
        merged = add(x, merged_matmul)                                           f32[2, 5, 8]

    Options: none.

    Exactness: exact up to rounding for finite sources (a sum multiplies what does not belong by zero, and zero times
    infinity is NaN). Memory: (places · sources) elements per batch for a sum or a mean over an expanded index, and
    (places · source elements) for all else.

    Source: one-hot matrix form of segment reductions; the operator as D. Bolya et al., "Token Merging: Your ViT But
    Faster", ICLR 2023, use it.
    """

    operators: ClassVar[Operators] = (aten.scatter_reduce.two,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The dense reduction of one scatter."""
        now = arguments_of(node)
        x, index, source, reduction = now["self"], now["index"], now["src"], now["reduce"]
        places = list(shape_of(x))
        if not places:
            return Refusal("the tensor has no dimension to scatter along")
        dim = positive(now["dim"], len(places))
        for axis, (have, named) in enumerate(zip(places, shape_of(index), strict=True)):
            if axis != dim and have != named:
                return Refusal(f"the index covers {named} of {have} elements of dimension {axis}")
        source = _crop(emit, source, shape_of(index))
        narrow = _before_expansion(emit, index)
        free = [axis for axis in range(len(places)) if axis != dim and shape_of(narrow)[axis] < places[axis]]
        order = [axis for axis in range(len(places)) if axis != dim and axis not in free] + [dim, *free]
        batch = [places[axis] for axis in order[: -1 - len(free)]]

        def rows(value: Node) -> Node:
            """A tensor as [*batch, extent along dim, the rest in one]."""
            permuted = _permute(emit, value, order)
            return _reshape(emit, permuted, [*batch, shape_of(value)[dim], -1])

        hit = _hits(emit, rows(narrow), places[dim])
        merged = _reduce(emit, rows(x), hit, rows(source), reduction, now["include_self"])
        split = _reshape(emit, merged, [places[axis] for axis in order])
        return _permute(emit, split, [order.index(axis) for axis in range(len(places))])


def _crop(emit: Emitter, source: Node, shape: Sequence[int]) -> Node:
    """The part of the source that the index covers."""
    for axis, (have, named) in enumerate(zip(shape_of(source), shape, strict=True)):
        if named < have:
            source = emit(aten.slice.Tensor, source, axis, 0, named)
    return source


def _before_expansion(emit: Emitter, index: Node) -> Node:
    """The index with extent 1 along the dimensions that `expand` made, where it did."""
    if index.target is not aten.expand.default:
        return index
    narrow = arguments_of(index)["self"]
    missing = len(shape_of(index)) - len(shape_of(narrow))
    return _reshape(emit, narrow, [*[1] * missing, *shape_of(narrow)])


def _hits(emit: Emitter, index: Node, places: int) -> Node:
    """Which source goes where. Takes i64[*batch, sources, 1], gives bool[*batch, places, sources]."""
    row = emit(aten.transpose.int, index, len(shape_of(index)) - 2, len(shape_of(index)) - 1)
    ramp = emit(aten.arange.start_step, 0, places, dtype=dtype_of(index))
    return emit(aten.eq.Tensor, row, emit(aten.view.default, ramp, [places, 1]))


def _reduce(emit: Emitter, x: Node, hit: Node, source: Node, reduction: str, include_self: bool) -> Node:
    """[*batch, places, columns] from x of that shape and the source [*batch, sources, columns]."""
    dtype, rank = dtype_of(x), len(shape_of(x))
    total = reduction in ("sum", "mean")
    if total:
        reduced = emit(aten.matmul.default, emit(aten._to_copy.default, hit, dtype=dtype), source)
    else:
        neutral = emit(aten.scalar_tensor.default, _neutral(reduction, dtype), dtype=dtype)
        spread = emit(aten.unsqueeze.default, source, rank - 2)
        chosen = emit(aten.where.self, emit(aten.unsqueeze.default, hit, rank), spread, neutral)
        over = (rank - 1) if reduction == "prod" else [rank - 1]
        options = {"dtype": dtype} if reduction == "prod" else {}
        reduced = emit(_DENSE[reduction], chosen, over, **options)
    if include_self:
        reduced = emit(_COMBINE[reduction], x, reduced)
    if include_self and reduction != "mean":
        return reduced
    count = emit(aten.sum.dim_IntList, emit(aten._to_copy.default, hit, dtype=torch.int64), [rank - 1], True)
    if reduction == "mean":
        extra = emit(aten.add.Tensor, count, 1) if include_self else emit(aten.clamp_min.default, count, 1)
        divisor = emit(aten._to_copy.default, extra, dtype=dtype)
        rounding = {} if dtype.is_floating_point else {"rounding_mode": "floor"}
        divide = aten.div.Tensor if dtype.is_floating_point else aten.div.Tensor_mode
        reduced = emit(divide, reduced, divisor, **rounding)
    return reduced if include_self else emit(aten.where.self, emit(aten.gt.Scalar, count, 0), reduced, x)


def _neutral(reduction: str, dtype: torch.dtype) -> float:
    if reduction == "prod":
        return 1
    if dtype.is_floating_point:
        return float("-inf") if reduction == "amax" else float("inf")
    limits = torch.iinfo(dtype)
    return limits.min if reduction == "amax" else limits.max


def _permute(emit: Emitter, value: Node, order: list[int]) -> Node:
    return value if order == sorted(order) else emit(aten.permute.default, value, order)


def _reshape(emit: Emitter, value: Node, shape: list[int]) -> Node:
    sizes = list(torch.empty(shape_of(value), device="meta").reshape(shape).shape)
    return value if sizes == list(shape_of(value)) else emit(aten.reshape.default, value, sizes)

"""Sorting by rank: an element's place is the number of elements that go before it.

Counting them for all elements at once takes n² comparisons, but is one plain reduction, which every device runs in
parallel, and it is stable. For the tokens and experts that models sort (n up to a few thousand) that is less than a
matrix product.
"""

from __future__ import annotations

from typing import Any

import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.emit import OPAQUE, Emit, Expr, Var, axis, constant, dtype_of, is_float, shape_of
from penstock.backends.tvm.ops.index import gather_along
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten

"""TVM's word for a kernel that nothing fuses into."""


@lowers(aten.sort.default)
def sort(emit: Emit, x: Expr, dim: int = -1, descending: bool = False) -> tuple[Expr, Expr]:
    """The elements of each line in order, and where they stood. Equal elements keep their order."""
    return _first(emit, x, dim, descending, None)


@lowers(aten.sort.stable)
def stable_sort(
    emit: Emit, x: Expr, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Expr, Expr]:
    """`sort`, which is always stable here."""
    return _first(emit, x, dim, descending, None)


@lowers(aten.argsort.default)
def argsort(emit: Emit, x: Expr, dim: int = -1, descending: bool = False) -> Expr:
    """Where the elements of each line stand, in the order of the elements."""
    return _first(emit, x, dim, descending, None)[1]


@lowers(aten.argsort.stable)
def stable_argsort(emit: Emit, x: Expr, stable: bool, dim: int = -1, descending: bool = False) -> Expr:
    """`argsort`, which is always stable here."""
    return _first(emit, x, dim, descending, None)[1]


@lowers(aten.topk.default)
def topk(emit: Emit, x: Expr, k: int, dim: int = -1, largest: bool = True, ordered: bool = True) -> tuple[Expr, Expr]:
    """The k largest or smallest elements of each line in order, and where they stand."""
    return _first(emit, x, dim, largest, k)


def _first(emit: Emit, x: Expr, dim: int, descending: bool, count: int | None) -> tuple[Expr, Expr]:
    """The first `count` elements of each line (all when None), and their positions."""
    rank = len(shape_of(x))
    if not rank:
        return x, constant(0, "int64")
    dim = axis(dim, rank)
    keys = emit.cast(x, "int8") if dtype_of(x) == "bool" else x
    places = _places(emit, keys, dim, descending)
    positions = _inverse(emit, places, dim, shape_of(x)[dim] if count is None else count)
    return gather_along(emit, x, positions, dim), positions


def _places(emit: Emit, keys: Expr, dim: int, descending: bool) -> Var:
    """For each element, how many of its line go before it. NaN counts as larger than everything, as in torch."""
    shape = shape_of(keys)
    floating = is_float(dtype_of(keys))

    def before(other: Any, own: Any, other_at: Any, own_at: Any) -> Any:
        less, equal = (other > own, other == own) if descending else (other < own, other == own)
        if floating:
            first, second = (other, own) if descending else (own, other)
            less = tirx.any(less, tirx.all(tirx.isnan(first), tirx.Not(tirx.isnan(second))))
            equal = tirx.any(equal, tirx.all(tirx.isnan(other), tirx.isnan(own)))
        return tirx.any(less, tirx.all(equal, other_at < own_at))

    def compute(line: te.Tensor, own: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, shape[dim]), "k")

        def element(*i: Any) -> Any:
            goes_before = before(line(*i[:dim], k, *i[dim + 1 :]), own(*i), k, i[dim])
            return te.sum(tirx.if_then_else(goes_before, tirx.const(1, "int32"), tirx.const(0, "int32")), axis=k)

        return te.compute(shape, element, name="rank")

    # The tensor goes in twice, and what makes it stays outside: schedules want one element read of each buffer.
    return emit.te(compute, keys, keys, name="rank", op_pattern=OPAQUE)


def _inverse(emit: Emit, places: Expr, dim: int, count: int) -> Var:
    """For each of the first `count` places, the position of the element that takes it."""
    shape = shape_of(places)

    def compute(tensor: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, shape[dim]), "k")

        def element(*i: Any) -> Any:
            taken = tensor(*i[:dim], k, *i[dim + 1 :]) == i[dim].astype("int32")
            return te.max(tirx.if_then_else(taken, k.astype("int64"), tirx.const(0, "int64")), axis=k)

        return te.compute((*shape[:dim], count, *shape[dim + 1 :]), element, name="order")

    return emit.te(compute, places, name="order")

"""Reductions, scans and searches along axes.

Until opset 17 (ReduceSum: 12) the axes of a reduction are an attribute, from then on an input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from penstock.frontends.onnx.registry import OLDEST_OPSET, UnsupportedFormError, onnx_op

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _product(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = torch.prod(x, dim, keepdim=keepdim)
    return x


def _sum(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return torch.sum(x, dims, keepdim=keepdim, dtype=x.dtype)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda x, dims, keepdim: _sum(torch.abs(x), dims, keepdim),
    "ReduceL2": lambda x, dims, keepdim: torch.sqrt(_sum(x * x, dims, keepdim)),
    "ReduceLogSum": lambda x, dims, keepdim: torch.log(_sum(x, dims, keepdim)),
    "ReduceLogSumExp": lambda x, dims, keepdim: torch.logsumexp(x, dims, keepdim=keepdim),
    "ReduceMax": lambda x, dims, keepdim: torch.amax(x, dims, keepdim=keepdim),
    "ReduceMean": lambda x, dims, keepdim: torch.mean(x, dims, keepdim=keepdim),
    "ReduceMin": lambda x, dims, keepdim: torch.amin(x, dims, keepdim=keepdim),
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, dims, keepdim: _sum(x * x, dims, keepdim),
}


def _register(name: str, reduction: Reduction, axes_are_input: int) -> None:
    if axes_are_input > OLDEST_OPSET:

        @onnx_op(name)
        def reduce_by_attribute(x: Tensor, *, axes: tuple[int, ...] = (), keepdims: int = 1) -> Tensor:
            return _reduce(reduction, x, axes, bool(keepdims))

    @onnx_op(name, since=axes_are_input)
    def reduce_by_input(
        x: Tensor, axes: tuple[int, ...] | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        if not axes and noop_with_empty_axes:
            return x
        return _reduce(reduction, x, axes or (), bool(keepdims))


def _reduce(reduction: Reduction, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    dims = tuple(axis % x.dim() for axis in axes) or tuple(range(x.dim()))
    return reduction(x, dims, keepdim)


for _name, _reduction in _REDUCTIONS.items():
    _register(_name, _reduction, OLDEST_OPSET if _name == "ReduceSum" else 18)


def _search(
    x: Tensor, axis: int, keepdims: int, select_last_index: int, find: Callable[[Tensor, int, bool], Tensor]
) -> Tensor:
    if not select_last_index:
        return find(x, axis, bool(keepdims))
    return x.shape[axis] - 1 - find(torch.flip(x, (axis,)), axis, bool(keepdims))


@onnx_op("ArgMax")
def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Where the largest element stands along an axis: the first of equals, or the last."""
    return _search(x, axis, keepdims, select_last_index, torch.argmax)


@onnx_op("ArgMin")
def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Where the smallest element stands along an axis: the first of equals, or the last."""
    return _search(x, axis, keepdims, select_last_index, torch.argmin)


@onnx_op("TopK")
def top_k(x: Tensor, k: int, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    """The `k` largest or smallest elements along an axis in order, of equals the first, and where they stand."""
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return torch.narrow(values, axis, 0, k), torch.narrow(indices, axis, 0, k)


@onnx_op("CumSum")
def cum_sum(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running sums along an axis."""
    return _scan(x, axis, exclusive, reverse, functools.partial(torch.cumsum, dtype=x.dtype), 0)


@onnx_op("CumProd", since=26)
def cum_prod(x: Tensor, axis: int, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Running products along an axis."""
    return _scan(x, axis, exclusive, reverse, functools.partial(torch.cumprod, dtype=x.dtype), 1)


def _scan(
    x: Tensor, axis: int, exclusive: int, reverse: int, scan: Callable[[Tensor, int], Tensor], neutral: int
) -> Tensor:
    if x.shape[axis] == 0:
        raise UnsupportedFormError("it scans an empty axis")
    if reverse:
        x = torch.flip(x, (axis,))
    if exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), neutral)
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    x = scan(x, axis)
    return torch.flip(x, (axis,)) if reverse else x

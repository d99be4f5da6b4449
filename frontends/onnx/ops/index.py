"""Operators that select elements by position, or write to positions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import onnx_op

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@onnx_op("Slice")
def slice_(
    x: Tensor,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None = None,
    steps: tuple[int, ...] | None = None,
) -> Tensor:
    """Elements from `starts` up to `ends` along each axis, with bounds and steps as in Python."""
    axes = axes if axes is not None else tuple(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, axes, steps or (1,) * len(starts), strict=True):
        chosen = range(x.shape[axis])[start:end:step]
        if len(chosen) == x.shape[axis] and step > 0:
            continue
        if not chosen:
            x = torch.narrow(x, axis, 0, 0)
            continue
        low, high = (chosen[0], chosen[-1]) if step > 0 else (chosen[-1], chosen[0])
        x = torch.ops.aten.slice.Tensor(x, axis, low, high + 1, abs(step))
        if step < 0:
            x = torch.flip(x, (axis,))
    return x


@onnx_op("Gather")
def gather(x: Tensor, index: Tensor | np.ndarray, *, axis: int = 0) -> Tensor:
    """Slices of `x` along an axis, the index may count from the end; rows of a table are an embedding.

    An embedding takes no negative index. Where the index is known it is made positive; where it is not, the index of
    a table is taken to be positive, as token ids are.
    """
    axis %= x.dim()
    if isinstance(index, np.ndarray):
        index = np.where(index < 0, index + x.shape[axis], index)
        if index.ndim == 0:
            return torch.select(x, axis, int(index))
        if index.ndim == 1 and index.size and (index == np.arange(index[0], index[0] + index.size)).all():
            return torch.narrow(x, axis, int(index[0]), index.size)
        index = torch.tensor(index.tolist(), dtype=torch.int64)
    if axis == 0 and x.dim() == 2 and x.is_floating_point():
        return F.embedding(index, x)
    where: list[slice | Tensor] = [*[slice(None)] * axis, index]
    return x[tuple(where)]


@onnx_op("GatherElements")
def gather_elements(x: Tensor, index: Tensor, *, axis: int = 0) -> Tensor:
    """For each place of `index`, the element of `x` there with the index as position along the axis."""
    return torch.gather(x, axis, torch.remainder(index, x.shape[axis]).to(torch.int64))


@onnx_op("GatherND")
def gather_nd(x: Tensor, index: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices of `x` at the coordinates in the last dimension of `index`, within each batch."""
    batch = [
        torch.arange(extent).reshape([-1 if other == dim else 1 for other in range(index.dim() - 1)])
        for dim, extent in enumerate(index.shape[:batch_dims])
    ]
    return x[(*batch, *torch.unbind(index, -1))]


@onnx_op("ScatterElements", since=13)
def scatter_elements(x: Tensor, index: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """A copy of `x` in which `updates` are written, or added in, along an axis."""
    index = torch.remainder(index, x.shape[axis]).to(torch.int64)
    if reduction == "none":
        return torch.scatter(x, axis, index, updates)
    return torch.scatter_reduce(x, axis, index, updates, _REDUCE[reduction])


@onnx_op("ScatterND", since=13)
def scatter_nd(x: Tensor, index: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """A copy of `x` in which `updates` are written, or added in, at the coordinates in `index`."""
    if reduction in ("none", "add"):
        return torch.index_put(x, torch.unbind(index, -1), updates, accumulate=reduction == "add")
    depth = index.shape[-1]
    rows = x.reshape(-1, *x.shape[depth:])
    flat = torch.zeros(index.shape[:-1], dtype=torch.int64)
    for coordinate, extent in zip(torch.unbind(index, -1), x.shape, strict=False):
        flat = flat * extent + torch.remainder(coordinate, extent)
    flat = flat.reshape(-1, *[1] * (rows.dim() - 1)).expand(-1, *rows.shape[1:])
    written = torch.scatter_reduce(rows, 0, flat, updates.reshape(flat.shape), _REDUCE[reduction])
    return written.reshape(x.shape)


@onnx_op("Trilu", since=14)
def trilu(x: Tensor, k: int | None = None, *, upper: int = 1) -> Tensor:
    """The upper or lower triangle of the last two dimensions, from the k-th diagonal on; zeros elsewhere."""
    return torch.triu(x, k or 0) if upper else torch.tril(x, k or 0)


@onnx_op("Compress")
def compress(x: Tensor, condition: np.ndarray, *, axis: int | None = None) -> Tensor:
    """The slices along an axis (or the elements) at which the condition holds."""
    if axis is None:
        x, axis = torch.flatten(x), 0
    return torch.index_select(x, axis, torch.tensor(np.flatnonzero(condition).tolist(), dtype=torch.int64))


@onnx_op("NonZero")
def non_zero(x: Tensor) -> Tensor:
    """The coordinates of what is not zero, one column for each element."""
    return torch.nonzero(x).t()

"""Pooling and resampling over the spatial dimensions of [batch, channel, *space]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, Var, shape_of
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten
Sizes = Sequence[int]


@lowers(aten.max_pool2d.default)
def max_pool(
    emit: Emit,
    x: Expr,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil_mode: bool = False,
) -> Expr:
    """The largest element of each window; padding never wins."""
    lowest = tirx.min_value(emit.dtype)
    window = _Window(emit, x, kernel, stride, padding, dilation)

    def compute(tensor: te.Tensor) -> te.Tensor:
        reduce_axes = window.axes()
        return te.compute(
            emit.shape,
            lambda *i: te.max(window.read(tensor, i, reduce_axes, lowest), axis=reduce_axes),
            name="max_pool",
        )

    return emit.te(compute, x, name="max_pool")


@lowers(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def avg_pool(
    emit: Emit,
    x: Expr,
    kernel: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Expr:
    """The mean of each window. The padding counts unless said otherwise; what lies beyond it never does."""
    window = _Window(emit, x, kernel, stride, padding, (1,))

    def compute(tensor: te.Tensor) -> te.Tensor:
        reduce_axes = window.axes()
        zero = tirx.const(0, emit.wide)
        total = te.compute(
            emit.shape,
            lambda *i: te.sum(window.read(tensor, i, reduce_axes, zero, emit.wide), axis=reduce_axes),
            name="total",
        )

        def mean(*i: Any) -> Any:
            count = divisor or window.count(i, count_include_pad)
            return total(*i) / (count if isinstance(count, int) else count.astype(emit.wide))

        return te.compute(emit.shape, mean, name="avg_pool")

    return emit.cast(emit.te(compute, x, name="avg_pool"), emit.dtype)


class _Window:
    """The window of a pooling over the last dimensions of a tensor."""

    def __init__(self, emit: Emit, x: Expr, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> None:
        # Without a batch the channels stand in front all the same: only the spatial dimensions count.
        self.rank = len(kernel) if len(kernel) > 1 else _SPATIAL_RANK[emit.target]
        self.extents = shape_of(x)[-self.rank :]
        self.kernel = _per_axis(kernel, self.rank)
        self.stride = _per_axis(stride or kernel, self.rank)
        self.padding = _per_axis(padding, self.rank)
        self.dilation = _per_axis(dilation, self.rank)

    def axes(self) -> list[Any]:
        """One reduction axis per spatial dimension."""
        return [te.reduce_axis((0, size), f"k{d}") for d, size in enumerate(self.kernel)]

    def read(self, tensor: te.Tensor, i: Sequence[Any], k: Sequence[Any], outside: Any, dtype: str = "") -> Any:
        """The element at offset `k` of output `i`'s window; `outside` in the padding."""
        at = [
            own * stride + offset * dilation - padding
            for own, offset, stride, dilation, padding in zip(
                i[-self.rank :], k, self.stride, self.dilation, self.padding, strict=True
            )
        ]
        element = tensor(*i[: -self.rank], *at)
        checks = [
            check
            for position, extent in zip(at, self.extents, strict=True)
            for check in (position >= 0, position < extent)
        ]
        return tirx.if_then_else(tirx.all(*checks), element.astype(dtype) if dtype else element, outside)

    def count(self, i: Sequence[Any], include_padding: bool) -> Any:
        """How many elements of output `i`'s window count."""
        result: Any = 1
        for own, size, stride, padding, extent in zip(
            i[-self.rank :], self.kernel, self.stride, self.padding, self.extents, strict=True
        ):
            begin = own * stride - padding
            end = tirx.min(begin + size, extent + padding)
            if not include_padding:
                begin, end = tirx.max(begin, 0), tirx.min(end, extent)
            result = result * (end - begin)
        return result


_SPATIAL_RANK = {
    aten.max_pool2d.default: 2,
    aten.avg_pool1d.default: 1,
    aten.avg_pool2d.default: 2,
    aten.avg_pool3d.default: 3,
}


def _per_axis(sizes: Sizes, rank: int) -> list[int]:
    return list(sizes) * rank if len(sizes) == 1 else list(sizes)


@lowers(aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec)
def upsample_nearest(emit: Emit, x: Expr, size: Sizes | None, factors: Sequence[float] | None) -> Var:
    """Each output element is the input element at or before it."""
    return _nearest(emit, x, factors, 0.0)


@lowers(aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec)
def upsample_nearest_exact(emit: Emit, x: Expr, size: Sizes | None, factors: Sequence[float] | None) -> Var:
    """Each output element is the input element nearest to its centre."""
    return _nearest(emit, x, factors, 0.5)


def _nearest(emit: Emit, x: Expr, factors: Sequence[float] | None, centre: float) -> Var:
    sources = [
        _nearest_source(extent, result, _scale(extent, result, factors, d), centre)
        for d, (extent, result) in enumerate(zip(shape_of(x)[2:], emit.shape[2:], strict=True))
    ]

    def compute(tensor: te.Tensor) -> te.Tensor:
        return te.compute(
            emit.shape,
            lambda *i: tensor(*i[:2], *(source(at) for source, at in zip(sources, i[2:], strict=True))),
            name="upsample_nearest",
        )

    return emit.te(compute, x, name="upsample_nearest")


def _scale(extent: int, result: int, factors: Sequence[float] | None, dim: int) -> float:
    """Input elements per output element. A factor that the model gave counts, not the sizes it led to."""
    return 1 / factors[dim] if factors else extent / result


def _nearest_source(extent: int, result: int, scale: float, centre: float) -> Callable[[Any], Any]:
    """The input position for an output position: in integers where that is the same."""
    # As torch computes it, in float32: one third of nine times three is not always one.
    exact = np.floor((np.arange(result, dtype=np.float32) + np.float32(centre)) * np.float32(scale))
    if np.minimum(exact, extent - 1).astype(int).tolist() == [at * extent // result for at in range(result)]:
        return lambda at: at if extent == result else tirx.floordiv(at * extent, result)

    def rounded(at: Any) -> Any:
        position = tirx.floor((at.astype("float32") + centre) * tirx.const(scale, "float32")).astype("int64")
        return tirx.max(tirx.min(position, extent - 1), 0)

    return rounded


@lowers(aten.upsample_bilinear2d.vec)
def upsample_bilinear(
    emit: Emit, x: Expr, size: Sizes | None, align_corners: bool, factors: Sequence[float] | None
) -> Expr:
    """The four neighbours of each output element, weighted by closeness."""
    pairs = [
        _linear_source(extent, result, _scale(extent, result, factors, d), align_corners)
        for d, (extent, result) in enumerate(zip(shape_of(x)[2:], emit.shape[2:], strict=True))
    ]

    def compute(tensor: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            neighbours = [pair(at) for pair, at in zip(pairs, i[2:], strict=True)]
            result: Any = 0.0
            for corner in itertools.product(*neighbours):
                weight = math.prod(weight for _, weight in corner)
                result = result + tensor(*i[:2], *(at for at, _ in corner)).astype(emit.wide) * weight
            return result

        return te.compute(emit.shape, element, name="upsample_bilinear")

    return emit.cast(emit.te(compute, x, name="upsample_bilinear"), emit.dtype)


def _linear_source(extent: int, result: int, scale: float, align_corners: bool) -> Callable[[Any], list[Any]]:
    """The two input positions next to an output position, each with its weight."""
    if align_corners:
        scale = (extent - 1) / (result - 1) if result > 1 else 0.0

    def neighbours(at: Any) -> list[Any]:
        position = at.astype("float32") * tirx.const(scale, "float32")
        if not align_corners:
            half = (at.astype("float32") + 0.5) * tirx.const(scale, "float32") - 0.5
            position = tirx.max(half, tirx.const(0, "float32"))
        lower = tirx.min(tirx.floor(position).astype("int64"), extent - 1)
        upper = tirx.min(lower + 1, extent - 1)
        fraction = position - lower.astype("float32")
        return [(lower, 1.0 - fraction), (upper, fraction)]

    return neighbours

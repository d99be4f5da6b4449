"""Pooling over the spatial dimensions of [batch, channel, *space]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, shape_of
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

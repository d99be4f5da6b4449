"""Convolutions in one, two and three dimensions. float16 accumulates in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tvm import relax

from penstock.backends.tvm.ops.contract import finish
from penstock.backends.tvm.ops.emit import Emit, Expr, Var, shape_of
from penstock.backends.tvm.ops.packed import packed_convolution
from penstock.backends.tvm.ops.registry import lowers
from penstock.backends.tvm.ops.scan import on_gpu

aten = torch.ops.aten
Sizes = Sequence[int]

_CONVOLUTIONS = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}
_TRANSPOSED = {1: relax.op.nn.conv1d_transpose, 2: relax.op.nn.conv2d_transpose, 3: relax.op.nn.conv3d_transpose}


@lowers(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
def convolution(
    emit: Emit,
    x: Expr,
    weight: Expr,
    bias: Expr | None = None,
    stride: Sizes = (1,),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    groups: int = 1,
) -> Expr:
    """Convolution of [batch, channel, *space] by [out, in / groups, *kernel]."""
    rank = len(shape_of(weight)) - 2
    if on_gpu():
        stride, padding, dilation = (_per_axis(size, rank) for size in (stride, padding, dilation))
        summed = packed_convolution(emit, _batched(emit, x, rank), weight, stride, padding, dilation, groups)
        return _finish(emit, summed, bias, rank)
    accumulated = _CONVOLUTIONS[rank](
        _batched(emit, x, rank),
        weight,
        strides=_per_axis(stride, rank),
        padding=_per_axis(padding, rank) * 2,
        dilation=_per_axis(dilation, rank),
        groups=groups,
        out_dtype=emit.wide,
    )
    return _finish(emit, emit(accumulated), bias, rank)


@lowers(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
def transposed_convolution(
    emit: Emit,
    x: Expr,
    weight: Expr,
    bias: Expr | None = None,
    stride: Sizes = (1,),
    padding: Sizes = (0,),
    output_padding: Sizes = (0,),
    groups: int = 1,
    dilation: Sizes = (1,),
) -> Expr:
    """The gradient of a convolution as an operator: [batch, channel, *space] by [in, out / groups, *kernel]."""
    rank = len(shape_of(weight)) - 2
    accumulated = _TRANSPOSED[rank](
        emit.cast(_batched(emit, x, rank), emit.wide),
        emit.cast(weight, emit.wide),
        strides=_per_axis(stride, rank),
        padding=_per_axis(padding, rank) * 2,
        output_padding=_per_axis(output_padding, rank),
        dilation=_per_axis(dilation, rank),
        groups=groups,
    )
    return _finish(emit, emit(accumulated), bias, rank)


def _finish(emit: Emit, accumulated: Var, bias: Expr | None, rank: int) -> Expr:
    if bias is not None:
        bias = emit.reshape(bias, (1, shape_of(bias)[0], *[1] * rank))
    return emit.reshape(finish(emit, accumulated, bias), emit.shape)


def _batched(emit: Emit, x: Expr, rank: int) -> Expr:
    """A batch of one for an input without batch."""
    return x if len(shape_of(x)) == rank + 2 else emit.reshape(x, (1, *shape_of(x)))


def _per_axis(sizes: Sizes, rank: int) -> list[int]:
    return list(sizes) * rank if len(sizes) == 1 else list(sizes)

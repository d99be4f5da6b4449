"""Convolutions in one, two and three dimensions. float16 accumulates in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.contract import finish
from penstock.backends.tvm.ops.emit import OUT_ELEMENTWISE_FUSABLE, Emit, Expr, Var, shape_of
from penstock.backends.tvm.ops.packed import packed_convolution
from penstock.backends.tvm.ops.registry import lowers
from penstock.backends.tvm.ops.scan import on_gpu
from penstock.backends.tvm.schedules.cpu.contraction import CONTRACTION
from penstock.backends.tvm.schedules.cpu.convolution import CONVOLUTION

aten = torch.ops.aten
Sizes = Sequence[int]


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
    stride, padding, dilation = (_per_axis(sizes, rank) for sizes in (stride, padding, dilation))
    sums = packed_convolution if on_gpu() else _direct
    return _finish(emit, sums(emit, _batched(emit, x, rank), weight, stride, padding, dilation, groups), bias, rank)


def _direct(emit: Emit, x: Expr, weight: Expr, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> Var:
    """A convolution as one sum over the unpadded input, which says of itself what it is, for the rules of schedules."""
    batch, _, *extents = shape_of(x)
    outs, ins, *kernel = shape_of(weight)
    space = [
        (extent + 2 * pad - (taps - 1) * step - 1) // jump + 1
        for extent, pad, taps, step, jump in zip(extents, padding, kernel, dilation, stride, strict=True)
    ]
    about = {
        CONTRACTION: CONVOLUTION,
        f"{CONTRACTION}.stride": list(stride),
        f"{CONTRACTION}.padding": list(padding),
        f"{CONTRACTION}.dilation": list(dilation),
        f"{CONTRACTION}.groups": groups,
    }

    def compute(data: te.Tensor, kernels: te.Tensor) -> te.Tensor:
        channel = te.reduce_axis((0, ins), "c")
        taps = [te.reduce_axis((0, extent), f"k{d}") for d, extent in enumerate(kernel)]

        def element(n: Any, o: Any, *at: Any) -> Any:
            places = [
                p * jump + tap * step - pad
                for p, tap, jump, step, pad in zip(at, taps, stride, dilation, padding, strict=True)
            ]
            inside = [test for p, extent in zip(places, extents, strict=True) for test in (p >= 0, p < extent)]
            source = data(n, tirx.floordiv(o, outs // groups) * ins + channel, *places).astype(emit.wide)
            value = tirx.if_then_else(tirx.all(*inside), source, tirx.const(0, emit.wide))
            return te.sum(value * kernels(o, channel, *taps).astype(emit.wide), axis=[channel, *taps])

        return te.compute((batch, outs, *space), element, name="convolution", attrs=about)

    return emit.te(compute, x, weight, name=f"conv{len(space)}d", op_pattern=OUT_ELEMENTWISE_FUSABLE)


def _finish(emit: Emit, accumulated: Var, bias: Expr | None, rank: int) -> Expr:
    if bias is not None:
        bias = emit.reshape(bias, (1, shape_of(bias)[0], *[1] * rank))
    return emit.reshape(finish(emit, accumulated, bias), emit.shape)


def _batched(emit: Emit, x: Expr, rank: int) -> Expr:
    """A batch of one for an input without batch."""
    return x if len(shape_of(x)) == rank + 2 else emit.reshape(x, (1, *shape_of(x)))


def _per_axis(sizes: Sizes, rank: int) -> list[int]:
    return list(sizes) * rank if len(sizes) == 1 else list(sizes)

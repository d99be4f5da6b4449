"""Linear layers and convolutions for GPUs, whose weights are stored with the output channels last (see `packing`).

Each is one sum of products over places of the input, which a schedule turns into tiles (`schedules.gpu`): nothing is
padded, dilated or gathered in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, Var, shape_of


def packed_linear(emit: Emit, x: Expr, weight: Expr) -> Var:
    """``x · weightᵀ`` over the last dimension, in the accumulator's dtype; the weight is [out, in]."""
    depth = shape_of(x)[-1]

    def compute(left: te.Tensor, right: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, depth), "k")
        return te.compute(
            emit.shape, lambda *i: te.sum(wide(emit, left(*i[:-1], k)) * wide(emit, right(k, i[-1])), axis=k), "linear"
        )

    return emit.te(compute, x, emit.in_order(weight, (1, 0)), name="linear")


def packed_convolution(
    emit: Emit,
    x: Expr,
    weight: Expr,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Var:
    """A convolution of [batch, in, *space] by [out, in / groups, *kernel], in the accumulator's dtype."""
    outputs, depth, *kernel = shape_of(weight)
    batch, _, *space = shape_of(x)
    reach = [step * (size - 1) + 1 for step, size in zip(dilation, kernel, strict=True)]
    result = [
        (extent + 2 * pad - far) // step + 1
        for extent, pad, far, step in zip(space, padding, reach, stride, strict=True)
    ]
    per_group = outputs // groups

    def compute(source: te.Tensor, packed: te.Tensor) -> te.Tensor:
        held = _padded(source, padding) if any(padding) else source
        channel = te.reduce_axis((0, depth), "channel")
        taps = [te.reduce_axis((0, size), f"tap{dim}") for dim, size in enumerate(kernel)]

        def element(n: Any, group: Any, out: Any, *at: Any) -> Any:
            places = [p * s + tap * d for p, s, tap, d in zip(at, stride, taps, dilation, strict=True)]
            value = wide(emit, held(n, group * depth + channel, *places))
            return te.sum(value * wide(emit, packed(*taps, channel, group * per_group + out)), axis=[*taps, channel])

        if groups == 1:
            return te.compute((batch, outputs, *result), lambda n, out, *at: element(n, 0, out, *at), "convolution")
        grouped = te.compute((batch, groups, per_group, *result), element, "convolution")
        return te.compute(
            (batch, outputs, *result),
            lambda n, out, *at: grouped(n, tirx.floordiv(out, per_group), tirx.floormod(out, per_group), *at),
            "channels",
        )

    order = (*range(2, len(kernel) + 2), 1, 0)
    return emit.te(compute, x, emit.in_order(weight, order), name=f"conv{len(kernel)}d")


def _padded(source: te.Tensor, padding: Sequence[int]) -> te.Tensor:
    """Zeros around the spatial dimensions; it becomes part of the loads."""
    space = source.shape[2:]

    def element(n: Any, channel: Any, *at: Any) -> Any:
        places = [place - pad for place, pad in zip(at, padding, strict=True)]
        inside = [
            condition
            for place, extent, pad in zip(places, space, padding, strict=True)
            if pad
            for condition in (place >= 0, place < extent)
        ]
        return tirx.if_then_else(tirx.all(*inside), source(n, channel, *places), tirx.const(0, source.dtype))

    shape = [extent + 2 * pad for extent, pad in zip(space, padding, strict=True)]
    return te.compute((*source.shape[:2], *shape), element, "padded")


def wide(emit: Emit, element: Any) -> Any:
    """An element in the accumulator's dtype."""
    return element if emit.wide == emit.dtype else element.astype(emit.wide)

"""Resampling of the spatial dimensions of [batch, channel, *space] to other sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.emit import OUT_ELEMENTWISE_FUSABLE, Emit, Expr, Var, shape_of
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten
Sizes = Sequence[int]
Position = Callable[[Any], tuple[Any, Any]]
"""Where in the input an output position lies: at a whole position, which may be -1, and how far behind it."""
Weighted = Callable[[Any], list[tuple[Any, Any]]]
"""The input positions that an output position is made of, each with its weight."""
_CUBIC = -0.75  # the parameter of cubic convolution that PyTorch takes


@lowers(aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec)
def upsample_nearest(emit: Emit, x: Expr, size: Sizes | None, factors: Sequence[float] | None) -> Var:
    """Each output element is the input element at or before it."""
    return _nearest(emit, x, factors, aten.upsample_nearest1d.default, 0)


@lowers(aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec)
def upsample_nearest_exact(emit: Emit, x: Expr, size: Sizes | None, factors: Sequence[float] | None) -> Var:
    """Each output element is the input element nearest to its centre."""
    return _nearest(emit, x, factors, aten._upsample_nearest_exact1d.default, 1)


def _nearest(emit: Emit, x: Expr, factors: Sequence[float] | None, along: Any, halves: int) -> Var:
    sources = []
    for d, (extent, result) in enumerate(zip(shape_of(x)[2:], emit.shape[2:], strict=True)):
        line = torch.arange(extent, dtype=torch.float32)[None, None]
        wanted = along(line, [result], factors[d] if factors else None)[0, 0].long().numpy()
        sources.append(_nearest_source(wanted, _scale(extent, result, factors, d), halves))

    def compute(tensor: te.Tensor) -> te.Tensor:
        return te.compute(
            emit.shape,
            lambda *i: tensor(*i[:2], *(source(at) for source, at in zip(sources, i[2:], strict=True))),
            name="upsample_nearest",
        )

    # A slice may not fuse into it: where that is padded in turn, TVM simplifies the divided positions to wrong ones.
    return emit.te(compute, x, name="upsample_nearest", op_pattern=OUT_ELEMENTWISE_FUSABLE)


def _nearest_source(wanted: np.ndarray[Any, Any], scale: float, halves: int) -> Callable[[Any], Any]:
    """The input position for an output position, in integers.

    torch computes ``floor((at + halves / 2) · scale)`` in float32, where one third of three is not always one. The
    product with a fraction says the same but for a few positions, which are listed.

    Args:
        wanted: what torch reads, for each output position.
        scale: input elements per output element.
    """
    numerator, denominator = _fraction(scale)
    last = int(wanted.max())

    def product(position: Any) -> Any:
        return (2 * position + halves) * numerator // (2 * denominator)

    computed = np.minimum(product(np.arange(len(wanted))), last)
    exceptions = {int(at): int(wanted[at]) for at in np.flatnonzero(computed != wanted)}

    def source(position: Any) -> Any:
        found = product(position.astype("int64"))
        if product(len(wanted) - 1) > last:
            found = tirx.min(found, last)
        for exception, position_read in exceptions.items():
            found = tirx.if_then_else(position == exception, position_read, found)
        return found

    return source


def _scale(extent: int, result: int, factors: Sequence[float] | None, dim: int) -> float:
    """Input elements per output element. A factor that the model gave counts, not the sizes it led to."""
    return 1 / factors[dim] if factors else extent / result


def _fraction(scale: float) -> tuple[int, int]:
    """A scale as whole numbers; as a number it would be rounded in the kernel's source, which shows seven digits."""
    return Fraction(scale).limit_denominator(1_000_000).as_integer_ratio()


@lowers(aten.upsample_linear1d.vec, aten.upsample_bilinear2d.vec, aten.upsample_trilinear3d.vec)
def upsample_linear(
    emit: Emit, x: Expr, size: Sizes | None, align_corners: bool, factors: Sequence[float] | None
) -> Expr:
    """The two neighbours of each output element along each dimension, weighted by closeness."""
    return _blended(emit, x, _linear_source, align_corners, factors)


@lowers(aten.upsample_bicubic2d.vec)
def upsample_cubic(
    emit: Emit, x: Expr, size: Sizes | None, align_corners: bool, factors: Sequence[float] | None
) -> Expr:
    """The four neighbours of each output element along each dimension, weighted by cubic convolution."""
    return _blended(emit, x, _cubic_source, align_corners, factors)


def _blended(
    emit: Emit,
    x: Expr,
    source: Callable[[int, Position], Weighted],
    align_corners: bool,
    factors: Sequence[float] | None,
) -> Expr:
    """A weighted sum of the input positions that a kind of interpolation takes along each dimension."""
    sources = [
        source(extent, _position(extent, result, _scale(extent, result, factors, d), align_corners))
        for d, (extent, result) in enumerate(zip(shape_of(x)[2:], emit.shape[2:], strict=True))
    ]

    def compute(tensor: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            result: Any = 0.0
            for corner in itertools.product(*(each(at) for each, at in zip(sources, i[2:], strict=True))):
                weight = math.prod(weight for _, weight in corner)
                result = result + tensor(*i[:2], *(at for at, _ in corner)).astype(emit.wide) * weight
            return result

        return te.compute(emit.shape, element, name="upsample")

    return emit.cast(emit.te(compute, x, name="upsample"), emit.dtype)


def _position(extent: int, result: int, scale: float, align_corners: bool) -> Position:
    if align_corners:
        scale = (extent - 1) / (result - 1) if result > 1 else 0.0
    numerator, denominator = _fraction(scale)

    def position(at: Any) -> tuple[Any, Any]:
        # A whole number of parts of an element, so that its integer part and its rest are exact.
        at = at.astype("int64")
        parts = 2 * denominator
        found = 2 * at * numerator if align_corners else (2 * at + 1) * numerator - denominator
        return found // parts, (found % parts).astype("float32") / float(parts)

    return position


def _linear_source(extent: int, position: Position) -> Weighted:
    """The two positions next to one."""

    def neighbours(at: Any) -> list[tuple[Any, Any]]:
        whole, rest = position(at)
        return [(_inside(whole, extent), 1.0 - rest), (_inside(whole + 1, extent), rest)]

    return neighbours


def _cubic_source(extent: int, position: Position) -> Weighted:
    """The four positions around one.

    Source: R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981.
    """

    def near(x: Any) -> Any:
        return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1.0

    def far(x: Any) -> Any:
        return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC

    def neighbours(at: Any) -> list[tuple[Any, Any]]:
        whole, rest = position(at)
        weights = far(rest + 1.0), near(rest), near(1.0 - rest), far(2.0 - rest)
        return [(_inside(whole + offset, extent), weight) for offset, weight in enumerate(weights, -1)]

    return neighbours


def _inside(at: Any, extent: int) -> Any:
    """The position itself, or the nearest one that there is."""
    return tirx.max(tirx.min(at, extent - 1), 0)

"""Operators that move elements and compute none: reshape, transpose, join, split, tile, pad."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op


@onnx_op("Reshape")
def reshape(x: Tensor, shape: tuple[int, ...], *, allowzero: int = 0) -> Tensor:
    """A 0 in the shape copies the extent of the input, unless `allowzero`; a -1 is what remains."""
    sizes = [x.shape[dim] if size == 0 and not allowzero else size for dim, size in enumerate(shape)]
    if -1 in sizes and x.numel():
        sizes[sizes.index(-1)] = x.numel() // -math.prod(sizes)
    return torch.reshape(x, sizes)


@onnx_op("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Two dimensions: those before the axis, and the rest."""
    axis = axis + x.dim() if axis < 0 else axis
    return torch.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@onnx_op("Transpose")
def transpose(x: Tensor, *, perm: tuple[int, ...] | None = None) -> Tensor:
    """Permute dimensions; reverse them without `perm`."""
    return torch.permute(x, perm if perm is not None else tuple(reversed(range(x.dim()))))


@onnx_op("Squeeze")
def squeeze(x: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """Drop dimensions of extent 1: the named ones, or all."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, axes)


@onnx_op("Unsqueeze")
def unsqueeze(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Insert dimensions of extent 1, so that they stand at `axes` of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = torch.unsqueeze(x, axis)
    return x


@onnx_op("Expand")
def expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Broadcast against a shape; an extent of 1 in the shape keeps that of the input."""
    return x.expand(torch.broadcast_shapes(tuple(x.shape), shape))  # type: ignore[no-untyped-call]


@onnx_op("Tile")
def tile(x: Tensor, repeats: tuple[int, ...]) -> Tensor:
    """Repeat along each dimension."""
    return x.repeat(repeats)


@onnx_op("Concat")
def concat(*tensors: Tensor, axis: int) -> Tensor:
    """Join along an axis."""
    return torch.cat(tensors, axis)


@onnx_op("Split")
def split(x: Tensor, sizes: tuple[int, ...] | None = None, *, axis: int = 0, outputs: int) -> tuple[Tensor, ...]:
    """Split into parts of the given sizes, or into equal ones."""
    return torch.split(x, list(sizes) if sizes else -(-x.shape[axis] // outputs), axis)


@onnx_op("Split", since=18)
def split_evenly(
    x: Tensor, sizes: tuple[int, ...] | None = None, *, axis: int = 0, num_outputs: int = 0, outputs: int
) -> tuple[Tensor, ...]:
    """Split into parts of the given sizes, or into `num_outputs` of which the last may be smaller."""
    return split(x, sizes, axis=axis, outputs=num_outputs or outputs)


@onnx_op("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move blocks of channels into space; CRD orders the channels as pixel shuffle does."""
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    depth = c // blocksize**2
    x = x.reshape(n, blocksize, blocksize, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, depth, h * blocksize, w * blocksize)


@onnx_op("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move blocks of space into channels; CRD orders the channels as pixel unshuffle does."""
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * blocksize**2, h // blocksize, w // blocksize)


@onnx_op("Pad")
def pad(
    x: Tensor,
    pads: tuple[int, ...],
    constant_value: float | None = None,
    axes: tuple[int, ...] | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Add elements before and after each axis (or crop, where negative).

    Args:
        pads: first what comes before each axis, then what comes after each.
        axes: which axes `pads` speaks of; all when None.
        mode: the new elements are ``constant_value``, the ``edge``, or go on by reflection or from the other end.
    """
    named = axes if axes is not None else tuple(range(x.dim()))
    amounts = [(0, 0)] * x.dim()
    for position, axis in enumerate(named):
        amounts[axis] = (pads[position], pads[len(named) + position])
    if mode == "constant":
        widths = [amount for pair in reversed(amounts) for amount in pair]
        return F.pad(x, widths, value=constant_value if constant_value is not None else 0)
    for axis, (before, after) in enumerate(amounts):
        if before or after:
            x = torch.index_select(x, axis, torch.tensor(_positions(x.shape[axis], before, after, mode)))
    return x


def _positions(extent: int, before: int, after: int, mode: str) -> list[int]:
    """For each element of a padded axis, the element of the axis that it copies."""
    places = range(-before, extent + after)
    if mode == "edge":
        return [min(max(place, 0), extent - 1) for place in places]
    if mode == "wrap":
        return [place % extent for place in places]
    if mode == "reflect":
        period = max(2 * (extent - 1), 1)
        return [min(place % period, period - place % period) if extent > 1 else 0 for place in places]
    raise UnsupportedFormError(f"its mode is '{mode}'; supported are constant, edge, reflect and wrap")

"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op
from penstock.frontends.onnx.windows import Window, padded, window_of

_MAX: tuple[Any, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_MEAN: tuple[Any, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_CONVOLUTIONS: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)


def _rank(x: Tensor) -> int:
    rank = x.dim() - 2
    if not 1 <= rank <= 3:
        raise UnsupportedFormError(f"it pools over {rank} axes; supported are 1 to 3")
    return rank


def _behind(x: Tensor, window: Window, ceil_mode: int) -> tuple[int, ...]:
    """What must stand behind each axis so that the last window fits; windows that start in it do not count."""
    if not ceil_mode:
        return window.after
    behind = []
    for axis, extent in enumerate(x.shape[2:]):
        whole = extent + window.before[axis] + window.after[axis]
        count = -(-(whole - window.spans[axis]) // window.strides[axis])
        if count * window.strides[axis] >= extent + window.before[axis]:
            count -= 1
        reach = count * window.strides[axis] + window.spans[axis]
        behind.append(max(reach - extent - window.before[axis], window.after[axis]))
    return tuple(behind)


def _torch_takes(window: Window, behind: tuple[int, ...]) -> bool:
    """Whether torch's pools take this padding: the same on both sides, and at most half of the kernel."""
    return window.before == behind and all(2 * a <= k for a, k in zip(behind, window.kernel, strict=True))


def _window_sums(x: Tensor, window: Window) -> Tensor:
    """The sum of each window of an `x` that is padded already."""
    rank = _rank(x)
    flat = x.reshape(-1, 1, *x.shape[2:])
    ones = torch.ones(1, 1, *window.kernel, dtype=x.dtype)
    sums: Tensor = _CONVOLUTIONS[rank - 1](flat, ones, None, window.strides, 0, window.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


@onnx_op("MaxPool")
def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    storage_order: int = 0,
    strides: tuple[int, ...] | None = None,
    outputs: int,
) -> tuple[Tensor, ...]:
    """The largest element of each window, and where it stands in the flattened tensor."""
    pool = _MAX[_rank(x) - 1]
    window = window_of(x, kernel_shape, strides, dilations, pads, auto_pad)
    behind, padding = _behind(x, window, ceil_mode), window.before
    if outputs > 1 and (storage_order or not _torch_takes(window, behind)):
        raise UnsupportedFormError("its indices need row-major order and equal padding of at most half the kernel")
    if not _torch_takes(window, behind):
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x, padding = padded(x, window.before, behind, lowest), (0,) * len(behind)
    if outputs == 1:
        return (pool(x, window.kernel, window.strides, padding, window.dilations),)
    values, places = pool(x, window.kernel, window.strides, padding, window.dilations, return_indices=True)
    planes = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * (x.dim() - 2))
    return values, places + planes * math.prod(x.shape[2:])


@onnx_op("AveragePool")
def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The mean of each window, of its real elements alone unless padding is to be counted."""
    rank = _rank(x)
    window = window_of(x, kernel_shape, strides, dilations, pads, auto_pad)
    behind = _behind(x, window, ceil_mode)
    if _torch_takes(window, behind) and set(window.dilations) == {1}:
        mean: Tensor = _MEAN[rank - 1](
            x, window.kernel, window.strides, window.before, count_include_pad=bool(count_include_pad)
        )
        return mean
    counted = torch.ones(1, 1, *x.shape[2:], dtype=x.dtype)
    more = [reach - after for reach, after in zip(behind, window.after, strict=True)]
    counted = padded(counted, window.before, window.after, 1.0 if count_include_pad else 0.0)
    counted = padded(counted, (0,) * rank, more)
    return _window_sums(padded(x, window.before, behind), window) / _window_sums(counted, window)


@onnx_op("LpPool")
def lp_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    p: int = 2,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The p-norm of each window."""
    window = window_of(x, kernel_shape, strides, dilations, pads, auto_pad)
    powers = padded(torch.pow(torch.abs(x), p), window.before, _behind(x, window, ceil_mode))
    return torch.pow(_window_sums(powers, window), 1 / p)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


@onnx_op("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """The mean over all spatial axes, which stay with extent 1."""
    return torch.mean(x, _spatial(x), keepdim=True)


@onnx_op("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """The largest element over all spatial axes, which stay with extent 1."""
    return torch.amax(x, _spatial(x), keepdim=True)


@onnx_op("GlobalLpPool")
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """The p-norm over all spatial axes, which stay with extent 1."""
    return torch.pow(torch.sum(torch.pow(torch.abs(x), p), _spatial(x), keepdim=True), 1 / p)

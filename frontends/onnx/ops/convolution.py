"""Convolutions, and what rearranges their windows."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op
from penstock.frontends.onnx.windows import padded, window_of

_CONVOLUTIONS: tuple[Any, ...] = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED: tuple[Any, ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def _of_rank(functions: tuple[Any, ...], x: Tensor) -> Any:
    rank = x.dim() - 2
    if not 1 <= rank <= len(functions):
        raise UnsupportedFormError(f"it slides over {rank} axes; supported are 1 to {len(functions)}")
    return functions[rank - 1]


@onnx_op("Conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """``x [N, C, *spatial]`` convolved with ``weight [M, C / group, *kernel]``."""
    function = _of_rank(_CONVOLUTIONS, x)
    window = window_of(x, weight.shape[2:], strides, dilations, pads, auto_pad)
    padding = window.before
    if not window.symmetric:
        x, padding = padded(x, window.before, window.after), (0,) * len(padding)
    result: Tensor = function(x, weight, bias, window.strides, padding, window.dilations, group)
    return result


@onnx_op("ConvTranspose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    output_padding: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """The transpose of a convolution; its padding crops the result, which `output_shape` may prescribe."""
    function = _of_rank(_TRANSPOSED, x)
    rank = x.dim() - 2
    extra = output_padding or (0,) * rank
    window = window_of(x, weight.shape[2:], strides, dilations, pads, "NOTSET" if pads else "VALID")
    before, after = list(window.before), list(window.after)
    full = [
        (extent - 1) * step + span + more
        for extent, step, span, more in zip(x.shape[2:], window.strides, window.spans, extra, strict=True)
    ]
    if output_shape or auto_pad.startswith("SAME"):
        wanted = output_shape or [extent * step for extent, step in zip(x.shape[2:], window.strides, strict=True)]
        crop = [whole - size for whole, size in zip(full, wanted[-rank:], strict=True)]
        small = [amount // 2 for amount in crop]
        large = [amount - half for amount, half in zip(crop, small, strict=True)]
        before, after = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    if before == after and min(before) >= 0:
        symmetric: Tensor = function(x, weight, bias, window.strides, before, extra, group, window.dilations)
        return symmetric
    whole: Tensor = function(x, weight, bias, window.strides, 0, extra, group, window.dilations)
    return padded(whole, [-amount for amount in before], [-amount for amount in after])


@onnx_op("Col2Im", since=18)
def col2im(
    x: Tensor,
    image_shape: tuple[int, ...],
    block_shape: tuple[int, ...],
    *,
    dilations: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Columns ``[N, C * prod(block), L]`` added up into an image, over two axes."""
    pads = pads or (0, 0, 0, 0)
    if len(image_shape) != 2 or pads[:2] != pads[2:]:
        raise UnsupportedFormError("it needs two axes and equal padding on both sides")
    return F.fold(x, image_shape, block_shape, dilations or (1, 1), pads[:2], strides or (1, 1))

"""Pixel shuffle and unshuffle as a transposition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class PixelShuffle(RewritePass):
    """Write `pixel_shuffle` and `pixel_unshuffle` as reshape, permute, reshape.

    Given::

        pixel_shuffle = pixel_shuffle(x, 2)                                          f32[2, 1, 8, 8]

    Result::

        pixel_shuffle_reshape = reshape(x, [2, 1, 2, 2, 4, 4])                        f32[2, 1, 2, 2, 4, 4]
        pixel_shuffle_permute = permute(pixel_shuffle_reshape, [0, 1, 4, 2, 5, 3])      f32[2, 1, 4, 2, 4, 2]
        pixel_shuffle = reshape(pixel_shuffle_permute, [2, 1, 8, 8])                 f32[2, 1, 8, 8]

    Options: none.

    Exactness: exact, the same elements.

    Source: W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
    Convolutional Neural Network", CVPR 2016.
    """

    operators: ClassVar[Operators] = (aten.pixel_shuffle.default, aten.pixel_unshuffle.default)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The transposition of one shuffle."""
        x, factor = node.args
        *batch, channels, height, width = shape_of(x)  # type: ignore[arg-type]
        n = len(batch)
        if node.target is aten.pixel_shuffle.default:
            split = [channels // factor**2, factor, factor, height, width]  # type: ignore[operator]
            order = [0, 3, 1, 4, 2]
        else:
            split = [channels, height // factor, factor, width // factor, factor]  # type: ignore[operator]
            order = [0, 2, 4, 1, 3]
        view = emit(aten.reshape.default, x, [*batch, *split])
        permuted = emit(aten.permute.default, view, [*range(n), *(n + place for place in order)])
        return emit(aten.reshape.default, permuted, list(shape_of(node)))

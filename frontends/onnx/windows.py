"""Sliding windows as ONNX describes them: the padding on each side that convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The window of a convolution or pool, one entry per spatial axis.

    Attributes:
        before: elements added before the first.
        after: elements added behind the last.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether both sides get the same padding, as torch's operators have it."""
        return self.before == self.after

    @property
    def spans(self) -> tuple[int, ...]:
        """How many elements the dilated window covers."""
        return tuple((size - 1) * step + 1 for size, step in zip(self.kernel, self.dilations, strict=True))


def window_of(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> Window:
    """The window with its padding worked out.

    Args:
        x: the input [N, C, *spatial].
        pads: first what comes before each axis, then what comes after each.
        auto_pad: ``NOTSET`` takes `pads`, ``VALID`` pads nothing; ``SAME_UPPER`` and ``SAME_LOWER`` pad so that the
            result has ``ceil(extent / stride)`` elements, the odd one at the end or at the start.
    """
    rank = x.dim() - 2
    steps, spread = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        small, large = [], []
        for extent, size, step, gap in zip(x.shape[2:], kernel, steps, spread, strict=True):
            total = max((-(-extent // step) - 1) * step + (size - 1) * gap + 1 - extent, 0)
            small.append(total // 2)
            large.append(total - total // 2)
        before, after = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    else:
        both = list(pads or (0,) * 2 * rank) if auto_pad == "NOTSET" else [0] * 2 * rank
        before, after = both[:rank], both[rank:]
    return Window(tuple(kernel), steps, spread, tuple(before), tuple(after))


def padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` with elements of one value added to (or, where negative, cropped from) its spatial axes."""
    if not any(before) and not any(after):
        return x
    return F.pad(
        x, [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair], value=value
    )

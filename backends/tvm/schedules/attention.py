"""What attention is asked to do: sizes and switches, from which each kind of device makes its kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attention:
    """One attention.

    Attributes:
        width: of a query and of a key.
        dtype: of query, key, value and result.
        mask_shape: four extents, each that of the scores or 1; None without a mask.
        scale: multiplies the scores before the mask.
        causal: query i sees keys 0 … i only.
    """

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    dtype: str
    mask_shape: tuple[int, ...] | None
    mask_dtype: str
    scale: float
    causal: bool


def largest_divisor(extent: int, limit: int) -> int:
    """The largest divisor of an extent that is no more than the limit."""
    return next(size for size in range(min(extent, limit), 0, -1) if extent % size == 0)

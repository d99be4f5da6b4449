"""What attention is asked to do: sizes and switches, from which each kind of device makes its kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.script import tirx as T


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


@T.macro  # type: ignore[untyped-decorator]
def rebase(largest: Any, base: Any, rescale: Any, total: Any, query: Any) -> None:
    """After the scores of a block of keys: what is exponentiated is taken relative to the largest score so far.

    Args:
        largest: of all scores of each query, the block's included.
        base: before, the largest without the block's; after, what to subtract from a score.
        rescale: what to multiply by what was added before.
        total: of the exponentials; multiplied.
        query: the place of the query in all of them.
    """
    # While every score is -inf there is nothing to be relative to; 0 keeps -inf - (-inf) away.
    rescale[query] = T.if_then_else(base[query] == T.float32("-inf"), T.float32(0), T.exp(base[query] - largest[query]))
    base[query] = T.if_then_else(largest[query] == T.float32("-inf"), T.float32(0), largest[query])
    total[query] = total[query] * rescale[query]


def largest_divisor(extent: int, limit: int) -> int:
    """The largest divisor of an extent that is no more than the limit."""
    return next(size for size in range(min(extent, limit), 0, -1) if extent % size == 0)

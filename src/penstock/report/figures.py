"""How counts are written for people: ``12,345``, ``3.42 GFLOP``, ``-37.5%``."""

from __future__ import annotations

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def format_count(count: int) -> str:
    """``12,345``."""
    return f"{count:,}"


def format_flops(flops: int) -> str:
    """``3.42 GFLOP``; a multiply-add counts as two."""
    for size, prefix in _PREFIXES:
        if flops >= size:
            return f"{flops / size:.3g} {prefix}FLOP"
    return f"{flops} FLOP"


def format_change(before: int, after: int) -> str:
    """``-37.5%``, ``≈0%`` for less than half a tenth of that, or an empty string for no change."""
    if before == after:
        return ""
    if before == 0:
        return "new"
    change = f"{(after - before) / before:+.1%}"
    return "≈0%" if change in ("+0.0%", "-0.0%") else change

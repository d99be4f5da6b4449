from __future__ import annotations

import pytest

from penstock.report.figures import format_change, format_count, format_flops


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0, "0 FLOP"), (999, "999 FLOP"), (1000, "1 kFLOP"), (3_418_000_000, "3.42 GFLOP"), (2 * 10**15, "2 PFLOP")],
)
def test_flops(flops: int, text: str) -> None:
    assert format_flops(flops) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(8, 5, "-37.5%"), (8, 8, ""), (0, 8, "new"), (8, 0, "-100.0%"), (2, 3, "+50.0%"), (10000, 9999, "≈0%")],
)
def test_change(before: int, after: int, text: str) -> None:
    assert format_change(before, after) == text


def test_count() -> None:
    assert format_count(1234567) == "1,234,567"

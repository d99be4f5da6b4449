from __future__ import annotations

import pytest

from penstock.cli.report_tables import chart, local_peaks


@pytest.mark.parametrize(
    ("values", "width", "text"),
    [
        ([], 4, ""),
        ([0, 0], 4, "▁▁"),
        ([0, 7, 3], 4, "▁█▄"),
        ([1, 8, 2, 2, 4, 1], 3, "█▂▄"),
        ([70], 8, "█"),
    ],
)
def test_a_chart_shows_the_largest_value_of_each_part(values: list[int], width: int, text: str) -> None:
    assert chart(values, width) == text


@pytest.mark.parametrize(
    ("values", "peaks"),
    [
        ([], []),
        ([5], [0]),
        ([1, 3, 2], [1]),
        ([3, 3, 1, 2, 2, 1, 4], [0, 3, 6]),
        ([1, 2, 2, 3], [3]),
        ([3, 2, 2, 1], [0]),
        ([2, 2, 2], [0]),
    ],
)
def test_peaks_are_found_once_each(values: list[int], peaks: list[int]) -> None:
    assert list(local_peaks(values)) == peaks

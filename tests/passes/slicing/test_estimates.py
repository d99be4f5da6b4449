from __future__ import annotations

import pytest

from penstock.passes.slicing.estimates import BYTES_PER_SECOND, part_seconds


def test_parts_of_what_is_independent_take_no_more_than_the_whole() -> None:
    assert 4 * part_seconds(10**9, 10**6, 0.25, 0) == pytest.approx(part_seconds(10**9, 10**6, 1.0, 0))


def test_each_part_reads_again_what_it_needs_whole() -> None:
    whole, parts = part_seconds(0, 10**6, 1.0, 10**5), 4 * part_seconds(0, 10**6, 0.25, 10**5)
    assert parts - whole == pytest.approx(3 * 10**5 / BYTES_PER_SECOND)

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from penstock.passes.analysis.axes import WholeError
from penstock.passes.slicing.parts import Parts, choices, ladder, scale, with_count


@pytest.mark.parametrize("unit", [1, 2, 3, 8])
def test_every_number_of_parts_is_there_once_and_as_even_as_can_be(unit: int) -> None:
    for size in range(1, 130):
        smallest: dict[int, int] = {}
        for step in range(unit, size, unit):
            count = Parts(size, step).count
            smallest[count] = min(step, smallest.get(count, step))
        assert [(parts.count, parts.step) for parts in choices(size, unit)] == sorted(smallest.items())


@pytest.mark.parametrize(("unit", "period"), [(1, 2), (1, 4), (2, 8), (3, 6)])
def test_steps_are_whole_periods_where_as_many_parts_can_be(unit: int, period: int) -> None:
    for size in range(1, 130):
        plain, found = choices(size, unit), choices(size, unit, period)
        assert [parts.count for parts in found] == [parts.count for parts in plain]
        for one, other in zip(plain, found, strict=True):
            whole = [step for step in range(period, size, period) if Parts(size, step).count == one.count]
            assert other.step == (whole[0] if whole else one.step)


def test_parts_cover_every_position_once() -> None:
    for size in (2, 7, 12, 77):
        for parts in choices(size):
            ranges = [*parts.ranges()]
            assert [at for low, high in ranges for at in range(low, high)] == [*range(size)]
            assert len(ranges) == parts.count
            assert parts.is_even == (size % parts.step == 0)


def test_parts_with_a_lead_begin_before_the_first_position() -> None:
    parts = Parts(10, 4, lead=3)
    assert [*parts.ranges()] == [(-3, 1), (1, 5), (5, 9), (9, 10)]
    assert (parts.first, parts.filled, parts.sizes, parts.plain) == (0, 4, (1, 4, 4, 1), Parts(10, 4))
    parts = Parts(6, 2, lead=5)
    assert [*parts.ranges()] == [(-5, -3), (-3, -1), (-1, 1), (1, 3), (3, 5), (5, 6)]
    assert (parts.first, parts.filled, parts.sizes) == (2, 4, (1, 2, 2, 1))
    assert not Parts(6, 2, lead=2).is_even


def test_a_ladder_has_few_rungs_and_reaches_the_finest() -> None:
    assert [parts.count for parts in ladder(13)] == [2, 4, 7, 13]
    assert [parts.count for parts in ladder(12)] == [2, 3, 4, 6, 12]
    for size in (257, 4096, 40009):
        counts = [1, *(parts.count for parts in ladder(size))]
        assert counts[-1] == size
        assert all(fewer < more <= 2 * fewer for fewer, more in itertools.pairwise(counts))


def test_a_ladder_has_rungs_of_whole_periods_while_there_are_any() -> None:
    assert [(parts.count, parts.step) for parts in ladder(25, 1, 2)] == [(2, 14), (4, 8), (7, 4), (13, 2), (25, 1)]
    assert [parts.step for parts in ladder(24, 1, 8)] == [16, 8, 6, 4, 3, 2, 1]


def test_a_number_of_parts_that_cannot_be_is_refused_with_those_next_to_it() -> None:
    assert with_count(13, 1, 1, 4) == Parts(13, 4)
    for size, unit, count, message in (
        (13, 1, 6, "5 or 7 parts, not 6"),
        (13, 1, 1, "2 parts, not 1"),
        (13, 1, 14, "13 parts, not 14"),
        (16, 4, 8, "4 parts, not 8"),
        (1, 1, 2, "cannot be cut"),
    ):
        with pytest.raises(WholeError, match=message):
            with_count(size, unit, 1, count)


def test_the_ratio_of_two_axes_is_the_simplest_that_is_right_but_for_one_position() -> None:
    assert scale(8, 4) == 2
    assert scale(4, 8) == scale(7, 13) == scale(6, 13) == Fraction(1, 2)
    assert scale(6, 4) == Fraction(3, 2)
    for size in range(1, 40):
        for other in range(1, 40):
            assert abs(scale(size, other) * other - size) <= 1

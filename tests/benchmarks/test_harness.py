from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness import Timing, alternate, fitted_exponent, kept_rows, machine, merged_rows, table, write_results


class Fake:
    """Takes the times it is given, and writes down when it ran."""

    def __init__(self, name: str, seconds: Iterator[float], log: list[str]) -> None:
        self.name = name
        self._seconds = seconds
        self._log = log

    def run(self) -> float:
        self._log.append(self.name)
        return next(self._seconds)


def test_contenders_take_turns_and_warm_up_does_not_count() -> None:
    log: list[str] = []
    slow, fast = Fake("slow", iter([9, 4, 5, 6]), log), Fake("fast", iter([8, 2, 2, 2]), log)
    timings = alternate([slow, fast], rounds=3, warm_up=1)
    assert log == ["slow", "fast"] * 4
    assert timings == [Timing("slow", (4, 5, 6)), Timing("fast", (2, 2, 2))]


def test_progress_is_told_after_each_round() -> None:
    told: list[tuple[int, int]] = []
    alternate([Fake("a", iter([1, 1, 1]), [])], rounds=2, warm_up=1, progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_drift_that_meets_both_leaves_the_ratio() -> None:
    drift = [1, 2, 4, 8, 16]
    ours, theirs = Timing("ours", tuple(drift)), Timing("theirs", tuple(1.5 * value for value in drift))
    assert theirs.ratio_to(ours) == 1.5
    assert ours.ratio_to(ours) == 1


def test_median_and_spread() -> None:
    timing = Timing("a", (1, 2, 3, 4, 100))
    assert (timing.median, timing.spread) == (3, pytest.approx(1 / 3))
    assert Timing("once", (5,)).spread == 0


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(exponent: float) -> None:
    sizes = [1000, 3000, 10000]
    assert math.isclose(fitted_exponent(sizes, [7 * size**exponent for size in sizes]), exponent, abs_tol=1e-9)


def test_tables_align() -> None:
    assert table(("name", "ms"), [("a", "1.0"), ("longer", "10.25")]).splitlines() == [
        "| name   |    ms |",
        "| ------ | ----: |",
        "| a      |   1.0 |",
        "| longer | 10.25 |",
    ]


def test_results_name_the_machine_but_not_its_host(tmp_path: Path) -> None:
    import platform

    write_results("speed", {"seconds": [1, 2]}, "| a table |", tmp_path)
    data = json.loads((tmp_path / "speed.json").read_text())
    assert data == {"machine": machine(), "seconds": [1, 2]}
    text = (tmp_path / "speed.md").read_text()
    assert f"date {machine()['date']}" in text
    assert text.endswith("| a table |\n")
    assert platform.node() not in text + json.dumps(data)


def test_rows_of_earlier_parts_are_found(tmp_path: Path) -> None:
    assert kept_rows("parts", tmp_path) == []
    write_results("parts", {"rows": [{"model": "vit"}]}, "", tmp_path)
    assert kept_rows("parts", tmp_path) == [{"model": "vit"}]


def test_rows_replace_those_with_the_same_keys() -> None:
    before = [{"model": "b", "share": 0.5, "ms": 1}, {"model": "b", "share": 0.2, "ms": 2}]
    rows = [{"model": "b", "share": 0.2, "ms": 3}, {"model": "a", "share": 1.0, "ms": 4}]
    found = merged_rows(before, rows, "model", "share")
    assert [(row["model"], row["share"], row["ms"]) for row in found] == [("a", 1.0, 4), ("b", 0.5, 1), ("b", 0.2, 3)]

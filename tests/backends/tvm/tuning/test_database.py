from __future__ import annotations

from pathlib import Path

import pytest

from penstock.backends.tvm.schedules.tunable import Question
from penstock.backends.tvm.tuning.database import Database, Trial
from penstock.passes.core.errors import UsageError


class Asked(Question):
    """A question with a fingerprint, but without a kernel."""

    key = "k"  # type: ignore[assignment]

    def __init__(self, *choices: dict[str, int]) -> None:
        super().__init__("rule", None, None, choices)


def trial(ratio: float | None, **choice: int) -> Trial:
    return Trial("k", "rule", "float32[8]", "cpu", choice, ratio, ratio)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tuning.jsonl"


def test_the_fastest_choice_is_taken_also_by_another_process(path: Path) -> None:
    database = Database(path)
    for each in (trial(0.8, tile=2), trial(0.5, tile=4), trial(1.5, tile=8), trial(None, tile=16)):
        database.add(each)
    question = Asked({"tile": 1}, {"tile": 2}, {"tile": 4}, {"tile": 8}, {"tile": 16})
    assert database.choose(question) == Database(path).choose(question) == {"tile": 4}


def test_a_later_measurement_of_a_choice_replaces_the_earlier(path: Path) -> None:
    database = Database(path)
    database.add(trial(0.5, tile=2))
    database.add(trial(1.1, tile=2))
    assert Database(path).choose(Asked({"tile": 1}, {"tile": 2})) == {"tile": 1}


def test_a_choice_that_the_rule_does_not_offer_any_more_is_not_taken(path: Path) -> None:
    Database(path).add(trial(0.5, tile=4))
    assert Database(path).choose(Asked({"tile": 1}, {"tile": 2})) == {"tile": 1}


def test_noise_is_no_gain(path: Path) -> None:
    Database(path).add(trial(0.98, tile=2))
    assert Database(path).best(Asked({"tile": 1}, {"tile": 2})) is None


def test_what_a_stopped_search_left_half_written_is_passed_over(path: Path) -> None:
    Database(path).add(trial(0.5, tile=2))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    database = Database(path)
    database.add(trial(0.4, tile=4))
    found = Database(path)
    assert len(found.tried(Asked({"tile": 1}))) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello\n", "line 2 is no measurement"),
        ('{"key": "k"}\n', "line 2 is no measurement: rule: Field required"),
        ("VERSION", "line 2 has version 9, expected 1"),
    ],
)
def test_another_file_is_refused_and_left_alone(path: Path, line: str, reason: str) -> None:
    Database(path).add(trial(0.5, tile=2))
    first = path.read_text()
    path.write_text(first + (first.replace('"version":1', '"version":9') if line == "VERSION" else line))
    before = path.read_bytes()
    with pytest.raises(UsageError, match=reason):
        Database(path)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        Database(tmp_path / "file" / "tuning.jsonl").add(trial(0.5, tile=2))

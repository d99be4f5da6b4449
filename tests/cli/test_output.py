from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from penstock.cli.output import Output, print_json


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_has_no_word_for_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("inf"), "b": [float("nan"), 1.5], "c": {"d": "∞"}})
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "a": None, "b": [None, 1.5], "c": {"d": "∞"}}


def test_progress_shows_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(stream: io.StringIO, verbosity: int) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        with Output(verbosity=verbosity).progress("passes") as report:
            report("half-precision", 1, 2)
        return stream.getvalue()

    assert "passes: half-precision" in shown(Terminal(), 0)
    assert shown(Terminal(), -1) == ""
    assert shown(io.StringIO(), 0) == ""


@pytest.mark.parametrize(("verbosity", "shown"), [(-1, "e"), (0, "we"), (1, "iwe"), (2, "diwe")])
def test_logs_go_to_stderr_as_verbosity_says(verbosity: int, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    Output(verbosity=verbosity).start_logging()
    logger = logging.getLogger("penstock.test")
    for level, text in ((10, "d"), (20, "i"), (30, "w"), (40, "e")):
        logger.log(level, text)
    assert "".join(line[-1] for line in stream.getvalue().splitlines()) == shown
    Output().start_logging()

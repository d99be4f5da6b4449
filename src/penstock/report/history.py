"""What each pass did to the Program, recorded while a pipeline runs."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from penstock.passes.core.base import Exactness, Pass
from penstock.passes.core.instruments import Instrument
from penstock.passes.core.options import format_pass
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program

DIFF_LIMIT = 2000
"""Lines kept of one difference. A pass that touches every node of a large model would otherwise fill the report."""

_PADDING = re.compile(r"(?<=\S) {2,}")


@dataclass(frozen=True)
class PassRecord:
    """What one pass did.

    Attributes:
        name: the pass's name.
        setting: the pass with its options, as ``--pass`` takes it.
        exactness: ``exact`` or ``lossy``.
        summary: the first line of its documentation.
        changed: whether it changed anything.
        nodes_before: operator nodes it was given.
        nodes_after: operator nodes it left.
        diff: the printed Program before and after, as the lines of a unified difference; empty if nothing changed.
        diff_omitted: lines left out of `diff` at its end.
    """

    name: str
    setting: str
    exactness: Exactness
    summary: str
    changed: bool
    nodes_before: int
    nodes_after: int
    diff: tuple[str, ...] = ()
    diff_omitted: int = 0


class History(Instrument):
    """Keeps one `PassRecord` per pass that ran, in `records`."""

    def __init__(self) -> None:
        self.records: list[PassRecord] = []
        self._printed: tuple[Program, list[str]] | None = None

    def after(self, current: Pass, before: Program, after: Program) -> None:
        diff: list[str] = []
        if after is not before:
            diff = text_diff(self._lines(before), self._lines(after))
        self.records.append(
            PassRecord(
                name=current.name(),
                setting=format_pass(current),
                exactness=current.exactness,
                summary=current.summary(),
                changed=after is not before,
                nodes_before=before.node_count,
                nodes_after=after.node_count,
                diff=tuple(diff[:DIFF_LIMIT]),
                diff_omitted=max(0, len(diff) - DIFF_LIMIT),
            )
        )

    def _lines(self, program: Program) -> list[str]:
        """The printed Program. One pass's result is the next one's input, so the last text is kept."""
        if self._printed is None or not same_graphs(self._printed[0], program):
            self._printed = (program, program_lines(program))
        return self._printed[1]


def same_graphs(left: Program, right: Program) -> bool:
    """Whether two Programs print alike because they share their graphs (their provenance may differ)."""
    return dict(left.graphs) == dict(right.graphs) and left.plan == right.plan and left.signature == right.signature


def program_lines(program: Program) -> list[str]:
    """The printed Program without column padding, so that a longer name does not change every other line."""
    return [_PADDING.sub("  ", line) for line in format_program(program).splitlines()]


def text_diff(before: list[str], after: list[str], context: int = 2) -> list[str]:
    """The lines of a unified difference, without its file header."""
    return list(difflib.unified_diff(before, after, n=context, lineterm=""))[2:]

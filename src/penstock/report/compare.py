"""What differs between two Programs, or between the Programs of two artifacts."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.report.history import text_diff
from penstock.report.model import ProgramInfo, Totals


@dataclass(frozen=True)
class CountChange:
    """How often an operator stands in two graphs, where that differs."""

    op: str
    left: int
    right: int


@dataclass(frozen=True)
class Comparison:
    """Two Programs side by side.

    Attributes:
        left: the figures of the first.
        right: the figures of the second.
        operators: the operators whose number differs.
        diff: the printed graphs as the lines of a unified difference; empty when they are equal.
    """

    left: Totals
    right: Totals
    operators: tuple[CountChange, ...]
    diff: tuple[str, ...]


def compare(left: ProgramInfo, right: ProgramInfo) -> Comparison:
    """Compare two Programs by their operators, figures and printed graphs."""
    before = {row.name: row.operators for row in left.by_operator}
    after = {row.name: row.operators for row in right.by_operator}
    changes = (CountChange(op, before.get(op, 0), after.get(op, 0)) for op in sorted(before | after))
    return Comparison(
        left=left.totals,
        right=right.totals,
        operators=tuple(change for change in changes if change.left != change.right),
        diff=tuple(text_diff(_lines(left), _lines(right))),
    )


def _lines(program: ProgramInfo) -> list[str]:
    borders = [f"in {spec}" for spec in program.inputs] + [f"out {spec}" for spec in program.outputs]
    return borders + [f"{node.graph}: {node.name} = {node.call}  {node.type}" for node in program.nodes]

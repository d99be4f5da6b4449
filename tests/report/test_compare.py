from __future__ import annotations

from collections.abc import Callable

from penstock.passes.core.program import Program
from penstock.report import Report, describe
from penstock.report.compare import CountChange, compare


def test_a_program_equals_itself(captured: Program) -> None:
    comparison = compare(describe(captured), describe(captured))
    assert comparison.left == comparison.right
    assert comparison.operators == ()
    assert comparison.diff == ()


def test_operators_and_lines_that_differ(captured: Program, make_report: Callable[..., Report]) -> None:
    comparison = compare(describe(captured), make_report(captured).program)
    assert comparison.operators == (CountChange("clamp_min", 0, 2), CountChange("relu", 2, 0))
    assert [line for line in comparison.diff if line[0] in "+-"] == [
        "-main: relu = relu(add)  f32[2, 16, 8]",
        "+main: relu = clamp_min(add, 0)  f32[2, 16, 8]",
        "-main: relu_1 = relu(add_1)  f32[2, 16, 8]",
        "+main: relu_1 = clamp_min(add_1, 0)  f32[2, 16, 8]",
    ]

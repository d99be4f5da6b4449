from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.fx import Node

import penstock.report.history as history_module
from penstock.passes.core.base import Pass, Replacement, RewritePass
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Emitter
from penstock.report import History
from penstock.report.history import program_lines, text_diff


@dataclass(frozen=True)
class ClampAsRelu(RewritePass):
    """Write a clamp at zero as relu."""

    operators = (torch.ops.aten.clamp_min.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        return emit(torch.ops.aten.relu.default, node.args[0])


def record(program: Program, passes: tuple[Pass, ...]) -> History:
    history = History()
    Pipeline(passes, (history,)).run(program)
    return history


def test_a_pass_that_changed_something_has_its_difference(captured: Program, passes: tuple[Pass, ...]) -> None:
    first, second = record(captured, passes).records
    assert (first.name, first.setting, first.exactness, first.changed) == ("relu-as-clamp",) * 2 + ("exact", True)
    assert first.summary == "Write relu as a clamp."
    assert first.nodes_before == first.nodes_after == captured.node_count
    changed = [line for line in first.diff if line[0] in "+-"]
    assert changed == [
        "-  relu = relu(add)  f32[2, 16, 8]",
        "+  relu = clamp_min(add, 0)  f32[2, 16, 8]",
        "-  relu_1 = relu(add_1)  f32[2, 16, 8]",
        "+  relu_1 = clamp_min(add_1, 0)  f32[2, 16, 8]",
    ]
    assert not second.changed
    assert second.diff == ()


def test_a_longer_line_elsewhere_does_not_show_in_the_difference() -> None:
    before = ["  x = relu(a)      f32[2]", "  y = relu(x)      f32[2]"]
    longer = ["  x = relu(a)                  f32[2]", "  y = clamp_min(x, 0.0, 1.0)   f32[2]"]
    strip = history_module._PADDING.sub
    diff = text_diff([strip("  ", line) for line in before], [strip("  ", line) for line in longer])
    assert [line for line in diff if line[0] in "+-"] == [
        "-  y = relu(x)  f32[2]",
        "+  y = clamp_min(x, 0.0, 1.0)  f32[2]",
    ]


def test_the_printed_program_keeps_its_indentation(captured: Program) -> None:
    lines = program_lines(captured)
    assert "graph main" in lines
    assert any(line.startswith("  in  x  f32[2, 16, 8]") for line in lines)


def test_a_long_difference_is_cut_and_says_how_much_is_missing(
    captured: Program, passes: tuple[Pass, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = record(captured, passes).records[0]
    monkeypatch.setattr(history_module, "DIFF_LIMIT", 3)
    cut = record(captured, passes).records[0]
    assert cut.diff == whole.diff[:3]
    assert cut.diff_omitted == len(whole.diff) - 3


def test_each_difference_starts_from_the_pass_before(captured: Program, passes: tuple[Pass, ...]) -> None:
    first, second = record(captured, (passes[0], ClampAsRelu())).records
    assert "+  relu = clamp_min(add, 0)  f32[2, 16, 8]" in first.diff
    assert "-  relu = clamp_min(add, 0)  f32[2, 16, 8]" in second.diff
    assert [line for line in second.diff if line[0] == "+"] == [
        line.replace("-", "+", 1) for line in first.diff if line[0] == "-"
    ]

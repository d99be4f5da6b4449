from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch.fx import Node

from penstock.frontends.torch_export import capture_module
from penstock.passes.core.base import Exactness, Operators, Pass, Refusal, Replacement, RewritePass
from penstock.passes.core.context import Context
from penstock.passes.core.errors import InvalidProgramError, VerificationError
from penstock.passes.core.instruments import Dump, Progress, Skip, Timer, Verify
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.source import made_by, source_of

aten = torch.ops.aten


class Net(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(torch.relu(x) * 2).exp()


@pytest.fixture
def program() -> Program:
    return capture_module(Net(), (torch.randn(4),))


@dataclass(frozen=True)
class ReluToClamp(RewritePass):
    """relu as clamp_min."""

    operators: ClassVar[Operators] = (aten.relu.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        return emit(aten.clamp_min.default, node.args[0], 0)


@dataclass(frozen=True)
class DoubleByAdding(RewritePass):
    """x * 2 as x + x."""

    operators: ClassVar[Operators] = (aten.mul.Tensor,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        return emit(aten.add.Tensor, node.args[0], node.args[0]) if node.args[1] == 2 else Refusal("not by 2")


@dataclass(frozen=True)
class SineToCosine(RewritePass):
    """A wrong pass."""

    operators: ClassVar[Operators] = (aten.sin.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        return emit(aten.cos.default, node.args[0])


@dataclass(frozen=True)
class LossySine(SineToCosine):
    """The same, but it says so."""

    exactness: ClassVar[Exactness] = "lossy"


@dataclass(frozen=True)
class Crash(Pass):
    """A pass that fails."""

    def run(self, program: Program, context: Context) -> Program:
        raise ZeroDivisionError("by zero")


def test_passes_run_in_order_and_leave_provenance(program: Program) -> None:
    after = Pipeline((ReluToClamp(), DoubleByAdding())).run(program)
    assert after.provenance == ("captured Net", "relu-to-clamp", "double-by-adding")
    assert Pipeline((ReluToClamp(),)).run(after) is after


def test_replacements_keep_name_and_source_and_name_their_maker(program: Program) -> None:
    before = {node.name: node for node in program.graphs["main"].graph.nodes}
    after = {node.name: node for node in Pipeline((ReluToClamp(),)).run(program).graphs["main"].graph.nodes}
    assert after["relu"].target is aten.clamp_min.default
    assert source_of(after["relu"]) == source_of(before["relu"]) != ""
    assert made_by(after["relu"]) == "relu-to-clamp"
    assert made_by(after["mul"]) == ""
    assert before["relu"].target is aten.relu.default, "the pass edited its input"


def test_refusals_are_recorded_with_node_and_source() -> None:
    class Three(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 3

    program, context = capture_module(Three(), (torch.randn(4),)), Context()
    assert DoubleByAdding().run(program, context) is program
    (declined,) = context.declined
    assert str(declined).startswith("double-by-adding: 'mul' (core/test_pipeline.py:")
    assert str(declined).endswith("not by 2")


def test_a_crash_names_the_pass_and_those_before_it(program: Program) -> None:
    with pytest.raises(InvalidProgramError, match=r"pass 'crash' \(after relu-to-clamp\) crashed: ZeroDivisionError"):
        Pipeline((ReluToClamp(), Crash())).run(program)


def test_veto(program: Program) -> None:
    after = Pipeline((ReluToClamp(), Crash(), DoubleByAdding()), (Skip(["crash"]),)).run(program)
    assert after.provenance[1:] == ("relu-to-clamp", "double-by-adding")


def test_timer_counts_nodes_and_changes(program: Program) -> None:
    timer = Timer()
    Pipeline((ReluToClamp(), ReluToClamp()), (timer,)).run(program)
    assert [(row.name, row.nodes_before, row.nodes_after, row.changed) for row in timer.timings] == [
        ("relu-to-clamp", 4, 4, True),
        ("relu-to-clamp", 4, 4, False),
    ]
    assert all(row.seconds > 0 for row in timer.timings)


@pytest.mark.parametrize(("only_changes", "files"), [(True, ["000", "001"]), (False, ["000", "001", "002"])])
def test_dump_writes_the_graph_after_each_pass(
    program: Program, tmp_path: Path, only_changes: bool, files: list[str]
) -> None:
    Pipeline((ReluToClamp(), ReluToClamp()), (Dump(tmp_path / "ir", only_changes),)).run(program)
    written = sorted((tmp_path / "ir").iterdir())
    assert [path.name[:3] for path in written] == files
    assert "relu = relu(x)" in written[0].read_text()
    assert "relu = clamp_min(x, 0)" in written[1].read_text()
    assert "by relu-to-clamp" in written[1].read_text()


def test_progress(program: Program) -> None:
    told: list[tuple[str, int, int]] = []
    Pipeline((ReluToClamp(), DoubleByAdding()), (Progress(lambda *item: told.append(item)),)).run(program)
    assert told == [("relu-to-clamp", 0, 2), ("double-by-adding", 1, 2)]


@pytest.mark.parametrize("each", [True, False], ids=["after each pass", "at the end, by bisection"])
def test_verification_finds_the_bad_pass_and_the_first_wrong_value(program: Program, each: bool) -> None:
    passes = (ReluToClamp(), SineToCosine(), DoubleByAdding())
    with pytest.raises(VerificationError) as caught:
        Pipeline(passes, (Verify(each=each),)).run(program)
    text = str(caught.value)
    assert "pass 'sine-to-cosine' calls itself exact but changed the outputs" in text
    assert "first value that differs: 'sin' in graph 'main'" in text
    assert "core/test_pipeline.py:" in text


@pytest.mark.parametrize("each", [True, False])
def test_verification_of_right_passes_is_silent(program: Program, each: bool) -> None:
    Pipeline((ReluToClamp(), DoubleByAdding()), (Verify(each=each),)).run(program)


@pytest.mark.parametrize("each", [True, False])
def test_a_lossy_pass_is_measured_and_later_passes_are_compared_with_its_result(program: Program, each: bool) -> None:
    verify = Verify(each=each)
    Pipeline((ReluToClamp(), LossySine(), DoubleByAdding()), (verify,)).run(program)
    (difference,) = verify.losses["lossy-sine"]
    x = program.examples[0].relu() * 2
    assert difference.max_error == pytest.approx(float((x.sin().exp() - x.cos().exp()).abs().max()), rel=1e-5)

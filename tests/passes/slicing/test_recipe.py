from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import penstock
from penstock.passes.analysis.memory import memory
from penstock.passes.core.context import Context
from penstock.passes.core.errors import UsageError
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program
from penstock.passes.slicing.feature_slicing import FeatureSlicing
from penstock.passes.slicing.recipe import SlicingPlan
from penstock.slicing import slicing_curve, slicing_plan
from tests.passes.slicing.slices import assert_equal, captured
from tests.passes.slicing.test_feature_slicing import Attention, Pyramid, Temporal, Wide

MODELS = {
    "one loop": (Wide(), (1, 64, 8), "fused", 0.1),
    "halos": (Pyramid(), (2, 3, 16, 16), "fused", 0.7),
    "sweeps": (nn.Sequential(Temporal(), Temporal()), (1, 16, 4, 8, 8), "fused", 0.4),
    "loops in loops": (nn.Sequential(Attention(), Attention()), (4, 128, 16), "materialized", 0.1),
}


@pytest.fixture(params=MODELS)
def planned(request: pytest.FixtureRequest) -> tuple[Program, str, int, SlicingPlan]:
    model, shape, attention, share = MODELS[request.param]
    program = captured(model, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    budget = program.weight_bytes + int(share * memory(program, attention).activation_bytes)  # type: ignore[arg-type]
    return program, attention, budget, slicing_plan(program, budget, attention)  # type: ignore[arg-type]


def test_a_plan_that_is_followed_is_the_plan_that_was_chosen(planned, tmp_path: Path) -> None:
    program, attention, budget, plan = planned
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    chosen = FeatureSlicing(str(budget), attention).run(program, Context())
    followed = FeatureSlicing(attention=attention, plan=str(tmp_path / "plan.json")).run(program, Context())
    assert plan.graphs["main"].groups
    assert format_program(followed) == format_program(chosen)
    assert memory(followed, attention).peak_bytes <= budget
    assert_equal(program, followed)


def test_a_plan_says_what_its_groups_do(planned) -> None:
    program, attention, _, plan = planned
    for group in plan.graphs["main"].groups:
        assert group.operators >= 1
        assert group.saved > 0
        assert group.bytes <= plan.graphs["main"].bytes < memory(program, attention).activation_bytes
        assert group.flops >= 0


def edited(plan: SlicingPlan, **changes: object) -> str:
    data = json.loads(plan.model_dump_json())
    data["graphs"]["main"]["groups"][0].update(changes)
    return json.dumps(data)


@pytest.fixture
def wide() -> tuple[Program, SlicingPlan]:
    program = captured(Wide(), torch.randn(1, 64, 8))
    share = int(0.1 * memory(program).activation_bytes)
    return program, slicing_plan(program, program.weight_bytes + share)


def test_an_edited_plan_is_followed(wide, tmp_path: Path) -> None:
    program, plan = wide
    (tmp_path / "plan.json").write_text(edited(plan, cut={"parts": 2}))
    followed = FeatureSlicing(plan=str(tmp_path / "plan.json")).run(program, Context())
    (loop,) = followed.plan.ops()
    assert sum(piece.count for piece in loop.pieces) == 2
    assert_equal(program, followed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "nothing"}, "no operator 'nothing'"),
        ({"cut": {"parts": 12}}, r"there can be 11 or 13 parts, not 12"),
        ({"dim": 5}, "there is no dimension 5"),
        ({"sweeps": [{"parts": 2}]}, "0 reductions to sweep, not 1"),
        ({"cut": {"parts": 2, "again": 10}}, "cannot be cut again to 10 bytes"),
        ({"hoisted": 10}, "it hoists nothing"),
        ({"cut": {"parts": 0}}, r"graphs.main.groups.0.cut.parts: .* greater than 0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_plan_is_refused(wide, tmp_path: Path, changes, message: str) -> None:
    program, plan = wide
    (tmp_path / "plan.json").write_text(edited(plan, **changes))
    with pytest.raises(UsageError, match=message):
        FeatureSlicing(plan=str(tmp_path / "plan.json")).run(program, Context())


def test_a_file_that_is_no_plan_is_refused(wide, tmp_path: Path) -> None:
    program, plan = wide
    (tmp_path / "plan.json").write_text("[1]")
    for path, message in ((tmp_path / "plan.json", "is no slicing plan"), (tmp_path / "none.json", "cannot be read")):
        with pytest.raises(UsageError, match=message):
            FeatureSlicing(plan=str(path)).run(program, Context())
    (tmp_path / "plan.json").write_text(plan.model_dump_json().replace('"main"', '"other"'))
    with pytest.raises(UsageError, match="plans the graph 'other'; there are main"):
        FeatureSlicing(plan=str(tmp_path / "plan.json")).run(program, Context())


def test_the_curve_goes_from_unsliced_to_the_least() -> None:
    program = captured(Pyramid(), torch.randn(2, 3, 16, 16))
    points = slicing_curve(program)
    least = penstock.optimize(program, memory_budget="min", pipeline=[])
    assert points[0].added == points[0].groups == 0
    assert points[0].peak_bytes == memory(program).peak_bytes
    assert points[-1].peak_bytes <= 1.05 * memory(least).peak_bytes
    assert [point.peak_bytes for point in points] == sorted((point.peak_bytes for point in points), reverse=True)
    costs = [point.added for point in points[1:]]
    assert costs == sorted(costs)


def test_where_parts_save_nothing_there_are_none() -> None:
    """What a kernel copies of a view counts in a plan, so parts of a small model may need more than the whole."""

    class Turned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inside(x.permute(0, 2, 1))

    program = captured(Turned(), torch.randn(1, 8, 8))
    least = penstock.optimize(program, memory_budget="min", pipeline=[])
    assert memory(least).peak_bytes <= memory(program).peak_bytes
    points = slicing_curve(program)
    assert [point.peak_bytes for point in points] == sorted({point.peak_bytes for point in points}, reverse=True)

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program
from penstock.report import Kernel, Report


def test_a_report_survives_json(captured: Program, make_report: Callable[..., Report]) -> None:
    report = make_report(captured, kernels=[Kernel("fused_linear", (2, 1, 1), (64, 1, 1))], memory_budget=4096)
    assert Report.from_json(report.to_json()) == report


def test_the_same_compilation_gives_the_same_text(captured: Program, make_report: Callable[..., Report]) -> None:
    assert make_report(captured).to_json() == make_report(captured).to_json()


def test_json_holds_no_path_of_this_computer(captured: Program, make_report: Callable[..., Report]) -> None:
    text = make_report(captured).to_json()
    for path in (Path.cwd(), Path.home(), Path(torch.__file__).parent, Path(__file__).parent):
        assert str(path) not in text


def test_json_is_plain_data_with_units_in_its_keys(captured: Program, make_report: Callable[..., Report]) -> None:
    data = json.loads(make_report(captured).to_json())
    assert data["schema_version"] == 1
    assert data["program"]["totals"].keys() == {
        "operators",
        "flops",
        "moved_bytes",
        "weight_bytes",
        "activation_bytes",
    }
    assert data["passes"][0]["diff"][0].startswith("@@")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "r.json is not a report: at the top: Invalid JSON"),
        ("[]", "r.json is not a report: at the top: Input should be an object"),
        ('{"model": 3}', "r.json is not a report: at model: Input should be a valid string"),
    ],
)
def test_damaged_json_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Report.from_json(text, "r.json")
    assert str(caught.value).startswith(reason)


def test_reports_compare_by_value(captured: Program, make_report: Callable[..., Report]) -> None:
    report = make_report(captured)
    assert replace(report, target="other") != report

from __future__ import annotations

import json
from pathlib import Path

import penstock
from penstock.cli.optimizing import Choice, capture_without_data, optimize
from penstock.cli.output import Output
from penstock.passes.core.program import Program


def test_what_each_budget_costs(invoke, invoke_json, models: Path) -> None:
    result = invoke("slice", f"{models}:long")
    assert result.exit_code == 0, result.output
    assert "What a budget costs" in result.stdout
    points = invoke_json("slice", f"{models}:long")["curve"]
    assert points[0]["groups"] == 0
    assert points[-1]["peak_bytes"] < points[0]["peak_bytes"]


def test_a_plan_is_shown_written_and_followed(invoke, invoke_json, models: Path, tmp_path: Path) -> None:
    points = invoke_json("slice", f"{models}:long")["curve"]
    budget = str((points[0]["peak_bytes"] + points[-1]["peak_bytes"]) // 2)
    file = tmp_path / "plan.json"
    result = invoke("slice", f"{models}:long", "--memory-budget", budget, "--write", file)
    assert result.exit_code == 0, result.output
    for text in ("Groups of main", "parts", "saved", "FLOPs again", "of activations"):
        assert text in result.stdout
    groups = json.loads(file.read_text())["graphs"]["main"]["groups"]
    assert groups
    assert (
        invoke_json("slice", f"{models}:long", "--memory-budget", budget)["plan"]["graphs"]["main"]["groups"] == groups
    )
    followed = invoke_json(
        "inspect", f"{models}:long", "--pipeline", "mobile", "--pass", f"feature-slicing:plan={file}"
    )
    totals = followed["report"]["program"]["totals"]
    assert totals["weight_bytes"] + totals["activation_bytes"] <= int(budget)


def test_a_plan_is_made_for_the_graph_that_is_compiled(models: Path) -> None:
    """What depends on weights alone is computed before a model is compiled, so no plan may name it."""
    choice = Choice(None, None, "mobile", (), (), None)
    output = Output()

    def operators(captured: Program) -> list[str]:
        program, _ = optimize(captured, choice, output)
        return [node.name for node in program.graphs["main"].graph.nodes if node.op == "call_function"]

    names = operators(capture_without_data(f"{models}:tables"))
    assert "mul" not in names
    assert names == operators(penstock.capture(f"{models}:tables"))


def test_a_budget_that_fits_needs_no_plan(invoke, net: str) -> None:
    assert "keeps to this budget without parts" in invoke("slice", net, "--memory-budget", "1GiB").stdout


def test_a_budget_below_the_least_names_what_holds_it(invoke, models: Path, tmp_path: Path) -> None:
    result = invoke("slice", f"{models}:long", "--memory-budget", "1KiB", "--write", tmp_path / "plan.json")
    assert result.exit_code == 5
    assert "largest tensors alive at the peak" in result.stderr
    assert not (tmp_path / "plan.json").exists()


def test_a_plan_to_write_needs_a_budget(invoke, net: str, tmp_path: Path) -> None:
    result = invoke("slice", net, "--write", tmp_path / "plan.json")
    assert result.exit_code == 2
    assert "--memory-budget" in result.stderr
    assert not (tmp_path / "plan.json").exists()


def test_the_report_lists_the_groups(invoke, invoke_json, models: Path, tmp_path: Path) -> None:
    arguments = ("inspect", f"{models}:long", "--memory-budget", "min")
    program = invoke_json(*arguments)["report"]["program"]
    (group,) = program["groups"]
    assert group["results"] == ["output"]
    assert group["parts"] > 1
    assert group["axis"] == "dim 0 of 64"
    assert group["operators"] == 4
    assert not group["nested"]
    assert group["peak_bytes"] == program["totals"]["activation_bytes"]
    assert group["flops"] == program["totals"]["flops"]
    shown = invoke(*arguments, "--html", tmp_path / "page.html")
    assert "In parts" in shown.stdout
    assert "Activations alive as captured" in shown.stdout
    assert "Groups that run in parts" in (tmp_path / "page.html").read_text()
    assert "Groups that run in parts" not in _page(invoke, f"{models}:long", tmp_path)


def _page(invoke, model: str, folder: Path) -> str:
    invoke("inspect", model, "--html", folder / "plain.html")
    return (folder / "plain.html").read_text()

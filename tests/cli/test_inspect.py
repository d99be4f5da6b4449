from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch


def test_a_model_is_shown_in_tables(net: str, invoke) -> None:
    result = invoke("inspect", net)
    assert result.exit_code == 0, result.output
    for text in (
        *("cli_models.py:net, attention counted as fused", "in  x f32[2, 8]", "out output f32[2, 8]"),
        *("activations at the peak", "Alive at the peak", "Peaks, highest first", "Operators", "Modules"),
        "cli_models.py:12 in forward",
    ):
        assert text in result.stdout


def test_everything_as_data(net: str, invoke_json) -> None:
    data = invoke_json("inspect", net)
    assert data["manifest"] is None
    report = data["report"]
    totals = report["program"]["totals"]
    assert totals["weight_bytes"] == 4 * (8 * 16 + 16 + 16 * 8 + 8)
    assert totals["operators"] == 4
    assert report["passes"] == []
    assert sum(tensor["bytes"] for tensor in report["program"]["peak_tensors"]) == totals["activation_bytes"]


def test_a_model_of_any_size_needs_no_memory(models: Path, invoke_json) -> None:
    report = invoke_json("inspect", f"{models}:large")["report"]
    assert report["program"]["totals"]["weight_bytes"] > 60 * 2**30


def test_a_factory_that_reads_values_runs_for_real(models: Path, invoke_json) -> None:
    assert invoke_json("inspect", f"{models}:reads_values")["report"]["program"]["inputs"] == ["x f32[2, 8]"]


def test_a_pt2_file_is_a_model(invoke_json, tmp_path: Path) -> None:
    exported = torch.export.export(torch.nn.Linear(4, 2), (torch.randn(3, 4),))
    torch.export.save(exported, tmp_path / "linear.pt2")
    report = invoke_json("inspect", tmp_path / "linear.pt2")["report"]
    assert report["model"] == "linear.pt2"
    assert report["program"]["outputs"] == ["output f32[3, 2]"]


def test_after_passes(net: str, invoke, invoke_json) -> None:
    arguments = ("inspect", net, "--target", "adreno-830", "--precision", "float16", "--memory-budget", "1MiB")
    report = invoke_json(*arguments)["report"]
    assert (report["target"], report["memory_budget"]) == ("adreno-830", 2**20)
    assert report["program"]["totals"]["weight_bytes"] * 2 == report["captured"]["weight_bytes"]
    assert [item["name"] for item in report["passes"]] == ["half-precision", "feature-slicing"]
    text = invoke(*arguments).stdout
    assert "after the passes" in text
    assert "-50.0%" in text


def test_a_budget_that_cannot_be_met_exits_with_5(net: str, invoke) -> None:
    result = invoke("inspect", net, "--memory-budget", "1KiB")
    assert result.exit_code == 5
    assert "largest tensors alive at the peak" in result.stderr


def test_attention_scores_count_when_asked(tmp_path: Path, invoke_json) -> None:
    path = tmp_path / "attention_model.py"
    path.write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.nn.functional.scaled_dot_product_attention(x, x, x)\n\n\n"
        "def net():\n    return Net(), (torch.randn(1, 256, 4),)\n"
    )

    def peak(attention: str) -> int:
        report = invoke_json("inspect", f"{path}:net", "--attention", attention)["report"]
        assert report["attention"] == attention
        return report["program"]["totals"]["activation_bytes"]

    assert peak("materialized") == peak("fused") + 2 * 256 * 256 * 4


def test_tables_are_cut_to_the_top_rows(net: str, invoke) -> None:
    text = invoke("inspect", net, "--top", "1").stdout
    assert "Operators (the first 1 of 3)" in text
    assert "Peaks" not in text


def test_a_page_is_written(net: str, invoke, tmp_path: Path) -> None:
    page = tmp_path / "net.html"
    result = invoke("inspect", net, "--html", page)
    assert result.exit_code == 0
    assert result.stderr == f"wrote {page}\n"
    assert page.read_text().startswith("<!doctype html>")
    assert invoke("-q", "inspect", net, "--html", page).stderr == ""


def test_a_page_that_cannot_be_written(net: str, invoke, tmp_path: Path) -> None:
    result = invoke("inspect", net, "--html", tmp_path / "no" / "net.html")
    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr


def test_an_artifact_shows_target_kernels_and_tools(phone_artifact: Path, invoke, invoke_json) -> None:
    text = invoke("inspect", phone_artifact).stdout
    for expected in ("for adreno-830", "made with apache-tvm", "half-precision moved output by", "Kernels", " × "):
        assert expected in text
    data = invoke_json("inspect", phone_artifact)
    assert data["manifest"]["target"]["name"] == "adreno-830"
    assert data["report"]["kernels"]
    assert data["report"]["passes"][0]["setting"] == "half-precision"


def test_passes_are_for_models(artifact: Path, invoke) -> None:
    result = invoke("inspect", artifact, "--target", "llvm")
    assert result.exit_code == 2
    assert "is compiled already; --target, --pipeline, --pass and --resize are for models" in result.stderr


def test_two_models_are_compared(net: str, models: Path, invoke, invoke_json) -> None:
    data = invoke_json("inspect", "--diff", net, f"{models}:wide")
    assert data["comparison"]["operators"] == []
    assert data["comparison"]["right"]["weight_bytes"] > data["comparison"]["left"]["weight_bytes"]
    text = invoke("inspect", "--diff", net, f"{models}:wide").stdout
    assert "-in x f32[2, 8]" in text
    assert "+in x f32[2, 16]" in text
    data = invoke_json("inspect", "--diff", net, f"{models}:spectrum")
    assert {"op": "linear", "left": 2, "right": 0} in data["comparison"]["operators"]


def test_a_model_is_compared_with_its_artifact(
    net: str, artifact: Path, phone_artifact: Path, invoke, invoke_json
) -> None:
    assert invoke("inspect", "--diff", net, artifact).stdout.endswith("the graphs are equal\n")
    data = invoke_json("inspect", "--diff", artifact, phone_artifact)
    assert data["comparison"]["left"]["weight_bytes"] == 2 * data["comparison"]["right"]["weight_bytes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one MODEL or OUT to inspect, or two with --diff A B"),
        (["a", "--diff", "b", "c"], "name one MODEL or OUT"),
        (["--diff", "b", "c", "--html", "x.html"], "--html shows one model"),
        (["gone.onnx"], "gone.onnx"),
    ],
)
def test_refusals(arguments: list[str], message: str, invoke) -> None:
    result = invoke("inspect", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_profile_times_every_launch(net: str, artifact: Path, invoke) -> None:
    result = invoke("inspect", artifact, "--profile", "3", "--format", "json")
    assert result.exit_code == 0, result.output
    launches = json.loads(result.stdout)["launches"]
    assert launches
    assert all(launch["runs"] == 3 and launch["seconds"] > 0 for launch in launches)
    shown = invoke("inspect", artifact, "--profile", "1")
    assert "ms per run" in shown.stdout
    assert launches[0]["kernel"] in shown.stdout


def test_profile_is_for_artifacts(net: str, invoke) -> None:
    result = invoke("inspect", net, "--profile", "1")
    assert result.exit_code == 2
    assert "--profile runs a compiled artifact" in result.stderr


def test_a_model_of_another_size(invoke, invoke_json, net: str) -> None:
    report = invoke_json("inspect", net, "--resize", "x:0=64")["report"]
    assert "f32[64, 8]" in invoke("inspect", net, "--resize", "x:0=64").stdout
    assert (
        report["program"]["totals"]["flops"] == 32 * invoke_json("inspect", net)["report"]["program"]["totals"]["flops"]
    )


def test_a_size_that_cannot_be(invoke, net: str) -> None:
    result = invoke("inspect", net, "--resize", "x:1=9")
    assert result.exit_code == 2
    assert "the weight 'first.weight' has this size" in result.stderr
    result = invoke("inspect", net, "--resize", "x=9")
    assert result.exit_code == 2
    assert "write INPUT:DIM=SIZE" in result.stderr

from __future__ import annotations

from pathlib import Path

import pytest

import penstock
from penstock.backends.artifact import open_artifact
from penstock.passes.core.errors import BudgetError
from penstock.passes.presets import PRESETS
from penstock.report import Report


def test_the_artifact_runs_and_holds_its_report(artifact: Path, net: str) -> None:
    assert all(difference.ok for difference in penstock.verify(artifact))
    report = Report.from_json((artifact / "report.json").read_bytes())
    assert (report.model, report.target) == ("cli_models.py:net", "llvm")
    assert report.program.totals.weight_bytes == penstock.capture(net).weight_bytes
    assert len(report.kernels) == len(open_artifact(artifact).manifest.kernels) > 0
    assert "<title>cli_models.py:net · penstock report</title>" in (artifact / "report.html").read_text()


def test_the_result_as_data(net: str, invoke_json, tmp_path: Path) -> None:
    out = tmp_path / "net.penstock"
    data = invoke_json(
        *("compile", net, "--target", "llvm", "--pipeline", "none", "--no-cache"),
        *("--memory-budget", "1MiB", "-o", out),
    )
    assert data["artifact"] == str(out)
    assert (data["target"], data["memory_budget_bytes"]) == ("llvm", 2**20)
    assert data["size_bytes"] == sum(
        file.stat().st_size for file in out.rglob("*") if file.name != "manifest.json" and file.is_file()
    )
    assert data["captured"] == data["compiled"]
    assert data["compiled"]["operators"] == 4
    assert data["passes"] == [{"setting": "feature-slicing", "exactness": "exact", "changed": False}]
    assert data["losses"] == {}


def test_a_launch_plan_above_the_budget_is_sliced_again(
    net: str, invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    optimize, compile_ = penstock.optimize, penstock.compile

    def optimized(*args, memory_budget, **options):
        asked.append(memory_budget)
        return optimize(*args, memory_budget=memory_budget, **options)

    def compiled(*args, memory_budget, **options):
        assert memory_budget == 2**20
        if len(asked) < 3:
            raise BudgetError("kernels need more", excess=1000)
        return compile_(*args, memory_budget=memory_budget, **options)

    monkeypatch.setattr(penstock, "optimize", optimized)
    monkeypatch.setattr(penstock, "compile", compiled)
    out = tmp_path / "net.penstock"
    done = invoke("compile", net, "--target", "llvm", "--memory-budget", "1MiB", "--no-cache", "-o", out)
    assert asked == ["1MiB", str(2**20 - 1000), str(2**20 - 2000)]
    assert "1000 B more than was planned" in done.stderr
    assert Report.from_json((out / "report.json").read_bytes()).memory_budget == 2**20


def test_the_default_pipeline_verified_pass_by_pass(net: str, invoke_json, tmp_path: Path) -> None:
    out = tmp_path / "net.penstock"
    data = invoke_json("compile", net, "--target", "llvm", "--verify-each", "--no-cache", "-o", out)
    assert [item["setting"].partition(":")[0] for item in data["passes"]] == [item.name() for item in PRESETS["mobile"]]
    assert all(difference.ok for difference in penstock.verify(out))


def test_half_precision_is_measured_and_reported(net: str, invoke, tmp_path: Path) -> None:
    out = tmp_path / "half.penstock"
    result = invoke(
        *("compile", net, "--target", "adreno-830", "--pipeline", "none", "--precision", "float16"),
        *("--no-cache", "-o", out),
    )
    assert result.exit_code == 0, result.output
    assert "passes       half-precision" in result.stdout
    assert "half-precision moved output: max error" in result.stdout
    assert "(captured: " in result.stdout
    (loss,) = open_artifact(out).manifest.losses["half-precision"]
    assert 0 < loss.max_error < 1e-2


def test_passes_are_added_and_skipped(net: str, invoke_json, tmp_path: Path) -> None:
    common = ("compile", net, "--target", "llvm", "--pipeline", "none", "--no-cache")
    data = invoke_json(
        *common, "--pass", "non-negative-indices", "--pass", "pixel-shuffle", "-o", tmp_path / "a.penstock"
    )
    assert [item["setting"] for item in data["passes"]] == ["non-negative-indices", "pixel-shuffle"]
    data = invoke_json(
        *(*common, "--pass", "non-negative-indices", "--pass", "pixel-shuffle"),
        *("--skip-pass", "pixel-shuffle", "-o", tmp_path / "a.penstock"),
    )
    assert [item["setting"] for item in data["passes"]] == ["non-negative-indices"]


def test_a_pipeline_file_and_dumps(net: str, invoke_json, tmp_path: Path) -> None:
    pipeline = tmp_path / "mine.toml"
    pipeline.write_text('[[pass]]\nname = "half-precision"\n')
    data = invoke_json(
        *("compile", net, "--target", "adreno-830", "--pipeline", pipeline, "--no-cache", "--verify-each"),
        *("--dump-ir", tmp_path / "dump", "-o", tmp_path / "a.penstock"),
    )
    assert data["passes"] == [{"setting": "half-precision", "exactness": "lossy", "changed": True}]
    assert data["losses"]["half-precision"][0]["max_error"] > 0
    assert [path.name for path in sorted((tmp_path / "dump").iterdir())] == [
        "000-captured.txt",
        "001-half-precision.txt",
    ]


def test_the_same_model_gives_the_same_bytes(net: str, artifact: Path, invoke, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "net.penstock"
    again.parent.mkdir()
    assert invoke("compile", net, "--target", "llvm", "--pipeline", "none", "--no-cache", "-o", again).exit_code == 0
    for name in ("report.json", "report.html", "manifest.json"):
        assert (again / name).read_bytes() == (artifact / name).read_bytes()


def test_the_cache_is_used(net: str, invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        result = invoke("compile", net, "--target", "llvm", "--pipeline", "none", "-o", tmp_path / f"{name}.penstock")
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "cache").rglob("manifest.json"))) == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--target", "llvn"], 2, "unknown target 'llvn'; did you mean llvm?"),
        (["--target", "llvm", "--pipeline", "phone"], 2, "unknown pipeline 'phone'"),
        (["--target", "llvm", "--pass", "pixel-shufle"], 2, "unknown pass 'pixel-shufle'; did you mean pixel-shuffle"),
        (["--target", "llvm", "--skip-pass", "pixel"], 2, "unknown pass 'pixel'"),
        (["--target", "llvm", "--memory-budget", "lots"], 2, "'lots' is not a size"),
        (["--target", "llvm", "--memory-budget", "1KiB"], 5, "the memory budget of 1.0 KiB cannot be met"),
    ],
)
def test_refusals(options: list[str], code: int, message: str, net: str, invoke, tmp_path: Path) -> None:
    out = tmp_path / "net.penstock"
    pipeline = [] if "--pipeline" in options else ["--pipeline", "none"]
    result = invoke("compile", net, *options, *pipeline, "-o", out)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert not out.exists()


def test_an_operator_without_lowering_exits_with_3_and_names_the_line(
    models: Path, invoke, invoke_json, tmp_path
) -> None:
    arguments = (
        "compile",
        f"{models}:spectrum",
        "--target",
        "llvm",
        "--pipeline",
        "none",
        "-o",
        tmp_path / "x.penstock",
    )
    result = invoke(*arguments)
    assert result.exit_code == 3
    assert "_fft_" in result.stderr
    assert "cli_models.py:" in result.stderr
    (item,) = invoke_json(*arguments, code=3)["error"]["unsupported"]
    assert item["advice"]


def test_a_bad_output_is_refused_before_the_work(net: str, invoke, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    result = invoke("compile", "no/such/model.pt2", "--target", "llvm", "--pipeline", "none", "-o", tmp_path)
    assert result.exit_code == 2
    assert "exists and is not a penstock artifact" in result.stderr


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing.pt2", "missing.pt2"),
        ("net", "'net' is not a model: a model is a .pt2 file"),
        ("no_such_package.module:net", "no_such_package"),
    ],
)
def test_a_model_that_is_not_there(model: str, message: str, invoke, tmp_path: Path) -> None:
    result = invoke("compile", model, "--target", "llvm", "--pipeline", "none", "-o", tmp_path / "x.penstock")
    assert result.exit_code == 2
    assert message in result.stderr

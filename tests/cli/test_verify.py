from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def test_a_good_artifact(artifact: Path, invoke, invoke_json) -> None:
    result = invoke("verify", artifact)
    assert result.exit_code == 0
    assert result.stdout.startswith("output: max error ")
    assert result.stdout.endswith(" ok\n")
    data = invoke_json("verify", artifact)
    assert data["ok"]
    assert [row["name"] for row in data["outputs"]] == ["output"]


def test_too_strict_a_tolerance_exits_with_4(artifact: Path, invoke, invoke_json) -> None:
    result = invoke("verify", artifact, "--tolerance", "1e-15")
    assert result.exit_code == 4
    assert "TOO FAR" in result.stdout
    assert "does not compute what PyTorch eager computes" in result.stderr
    assert not invoke_json("verify", artifact, "--tolerance", "1e-15", code=4)["ok"]


def test_against_the_model_and_against_another(artifact: Path, models: Path, invoke) -> None:
    assert invoke("verify", artifact, "--against", f"{models}:net").exit_code == 0
    result = invoke("verify", artifact, "--against", f"{models}:other")
    assert result.exit_code == 4
    assert f"does not compute what {models}:other computes" in result.stderr


def test_a_model_of_other_shapes_is_refused(artifact: Path, models: Path, invoke) -> None:
    result = invoke("verify", artifact, "--against", f"{models}:wide")
    assert result.exit_code == 2
    assert "is not the model of this artifact: its inputs are [(2, 16)], the artifact's [(2, 8)]" in result.stderr


@pytest.mark.parametrize("name", ["weights.safetensors", "report.json", "manifest.json"])
def test_a_damaged_file_is_named(name: str, artifact: Path, invoke, tmp_path: Path) -> None:
    copy = tmp_path / "copy.penstock"
    shutil.copytree(artifact, copy)
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-2])
    result = invoke("verify", copy)
    assert result.exit_code == 2
    assert name in result.stderr
    assert "damaged" in result.stderr

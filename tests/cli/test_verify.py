from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def test_a_good_artifact(artifact: Path, invoke, invoke_json) -> None:
    result = invoke("verify", artifact)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("run on cpu (")
    assert second.startswith("output: max error ")
    assert second.endswith(" ok")
    data = invoke_json("verify", artifact)
    assert data["ok"]
    assert [row["name"] for row in data["outputs"]] == ["output"]


def test_too_strict_a_tolerance_exits_with_4(phone_artifact: Path, net: str, invoke, invoke_json) -> None:
    half_against_single = ("verify", phone_artifact, "--against", net, "--tolerance", "1e-6")
    result = invoke(*half_against_single)
    assert result.exit_code == 4
    assert "TOO FAR" in result.stdout
    assert f"does not compute what {net} computes" in result.stderr
    assert not invoke_json(*half_against_single, code=4)["ok"]


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


def test_an_artifact_for_a_phone_is_simulated(phone_artifact: Path, invoke, invoke_json) -> None:
    result = invoke("verify", phone_artifact)
    assert result.exit_code == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert "OpenCL kernels" in first
    assert "executed on this CPU in the work-groups of adreno-830, in two orders" in first
    assert second.startswith("output: max error ")
    assert invoke_json("verify", phone_artifact)["executed"] == first


def test_a_model_is_compiled_for_a_device_and_verified(net: str, invoke_json) -> None:
    data = invoke_json("verify", net, "--target", "apple-a18-pro", "--precision", "float16")
    assert data["ok"]
    assert "Metal kernels" in data["executed"]
    (moved,) = data["passes_moved"]
    assert 0 < moved["max_error"] < 0.02 * moved["scale"]


def test_a_simulation_that_takes_too_long_is_refused(phone_artifact: Path, invoke) -> None:
    result = invoke("verify", phone_artifact, "--time-limit", "0")
    assert result.exit_code == 2
    assert "simulating adreno-830 for this model" in result.stderr
    assert "takes about" in result.stderr
    assert "--time-limit" in result.stderr


def test_without_a_compiler_nothing_is_simulated(phone_artifact: Path, invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    result = invoke("verify", phone_artifact)
    assert result.exit_code == 6
    assert "simulating a device needs a C++ compiler" in result.stderr


def test_a_model_without_a_device_is_refused(net: str, artifact: Path, invoke) -> None:
    assert "name a device with --target" in invoke("verify", net).stderr
    result = invoke("verify", artifact, "--precision", "float16")
    assert result.exit_code == 2
    assert "these options are for a model that is compiled first" in result.stderr

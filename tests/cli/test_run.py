from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import penstock


def expected(net: str, x: torch.Tensor) -> torch.Tensor:
    program = penstock.capture(net)
    return penstock.reference(program, x)


def test_without_inputs_it_runs_the_examples(artifact: Path, net: str, invoke_json, tmp_path: Path) -> None:
    data = invoke_json("run", artifact, "-o", tmp_path / "out.npz")
    (row,) = data["outputs"]
    result = expected(net, penstock.capture(net).examples[0])
    assert (row["name"], row["type"]) == ("output", "f32[2, 8]")
    assert row["max"] == pytest.approx(float(result.max()), abs=1e-5)
    assert np.load(tmp_path / "out.npz")["output"] == pytest.approx(result.numpy(), abs=1e-5)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_inputs_from_files(kind: str, artifact: Path, net: str, invoke, tmp_path: Path) -> None:
    x = torch.arange(16.0).reshape(2, 8) / 8
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, x.numpy())
    elif kind == "npz":
        np.savez(path, x=x.numpy())
    else:
        save_file({"x": x}, path)
    given = ("--input", f"x={path}") if kind == "npy" else ("--inputs", path)
    result = invoke("run", artifact, *given, "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 0, result.output
    assert f"wrote {tmp_path / 'out.safetensors'}" in result.stdout
    torch.testing.assert_close(load_file(tmp_path / "out.safetensors")["output"], expected(net, x), atol=1e-5, rtol=0)


def test_text_shows_each_output(artifact: Path, invoke) -> None:
    lines = invoke("run", artifact).stdout.splitlines()
    assert lines[0].split() == ["output", "type", "min", "max", "mean"]
    assert lines[2].split()[:3] == ["output", "f32[2,", "8]"]


def files(folder: Path) -> dict[str, Path]:
    np.save(folder / "wrong_shape.npy", np.zeros((3, 8), np.float32))
    np.save(folder / "wrong_dtype.npy", np.zeros((2, 8), np.float64))
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    (folder / "broken.safetensors").write_bytes(b"\xff" * 16)
    (folder / "text.txt").write_text("1 2 3")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input", "x"], "expected name=file.npy, got 'x'"),
        (["--input", "y={wrong_shape.npy}"], "the model has no input 'y'; its inputs are x"),
        (["--input", "x={wrong_shape.npy}"], "input 'x': expected f32[2, 8], got f32[3, 8]"),
        (["--input", "x={wrong_dtype.npy}"], "input 'x': expected f32[2, 8], got f64[2, 8]"),
        (["--input", "x={pickled.npy}"], "pickled.npy as a .npy file: Object arrays cannot be loaded"),
        (["--input", "x=gone.npy"], "cannot read gone.npy as a .npy file"),
        (["--inputs", "{broken.npz}"], "broken.npz as a .npz file"),
        (["--inputs", "{broken.safetensors}"], "broken.safetensors as a .safetensors file"),
        (["--inputs", "{text.txt}"], "expected a .npz or .safetensors file"),
        (["-o", "out.txt"], "out.txt: expected a file name that ends in .npz or .safetensors"),
        (["-o", "no/such/folder/out.npz"], "no/such/folder does not exist"),
    ],
)
def test_bad_files_are_refused_by_name(
    options: list[str], message: str, artifact: Path, invoke, tmp_path: Path
) -> None:
    known = files(tmp_path)
    for name, path in known.items():
        options = [option.replace(f"{{{name}}}", str(path)) for option in options]
    result = invoke("run", artifact, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_artifact_for_a_phone_does_not_run_here(phone_artifact: Path, invoke) -> None:
    result = invoke("run", phone_artifact)
    assert result.exit_code == 2
    assert "computes in float16" in result.stderr or "no OpenCL library" in result.stderr


def test_what_is_no_artifact_is_refused(invoke, tmp_path: Path) -> None:
    result = invoke("run", tmp_path)
    assert result.exit_code == 2
    assert "is not a penstock artifact: it holds no manifest.json" in result.stderr

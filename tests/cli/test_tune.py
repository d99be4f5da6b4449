from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.native


def test_what_is_measured_is_kept_and_compiled_with(invoke, invoke_json, models: Path, tmp_path: Path) -> None:
    file = tmp_path / "tuning.jsonl"
    data = invoke_json("tune", f"{models}:long", "--target", "llvm", "--seconds", 4, "-o", file)
    assert data["kernels"] == 2
    assert data["measured"] == len(file.read_text().splitlines()) > 0
    again = invoke_json("tune", f"{models}:long", "--target", "llvm", "--seconds", 0, "-o", file)
    assert again["known"] == data["measured"]
    assert again["left"] == data["left"]

    first = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps({**first, "ratio": 0.1, "seconds": 0.1}) + "\n")
    for name, options in (("own", ()), ("tuned", ("--tuning", file))):
        result = invoke("compile", f"{models}:long", "--target", "llvm", *options, "-o", tmp_path / f"{name}.penstock")
        assert result.exit_code == 0, result.output
        assert invoke("verify", tmp_path / f"{name}.penstock").exit_code == 0
    own, tuned = (
        {p.read_text() for p in (tmp_path / f"{name}.penstock" / "kernels").iterdir()} for name in ("own", "tuned")
    )
    assert own != tuned


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--target", "adreno-830"), "target 'adreno-830' is not this machine; name a device"),
        (("--target", "llvm", "--rpc", "phone"), "'phone' is no address; write HOST:PORT"),
        (("--target", "nothing"), "unknown target 'nothing'"),
    ],
)
def test_what_cannot_be_measured_is_told(invoke, net: str, tmp_path: Path, options: tuple[str, ...], text: str) -> None:
    result = invoke("tune", net, *options, "--seconds", 1, "-o", tmp_path / "t.jsonl")
    assert result.exit_code == 2
    assert text in result.stderr
    assert not (tmp_path / "t.jsonl").exists()


def test_a_tuning_file_that_is_none(invoke, net: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    command = ("compile", net, "--target", "llvm", "--tuning", file, "-o", tmp_path / "x.penstock")
    result = invoke(*command)
    assert result.exit_code == 2
    assert "there is no tuning file" in result.stderr
    file.write_text("hello\n")
    result = invoke(*command)
    assert result.exit_code == 2
    assert "line 1 is no measurement" in result.stderr
    assert not (tmp_path / "x.penstock").exists()

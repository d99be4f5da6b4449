from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from penstock.backends.artifact import Description, check_destination, copy_artifact, open_artifact, write_artifact
from penstock.passes.core.errors import UsageError

Write = Callable[[Path], Path]


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_round_trip(write: Write, tmp_path: Path, description: Description, weights: dict[str, torch.Tensor]) -> None:
    artifact = open_artifact(write(tmp_path / "net.penstock"))
    assert Description(**{name: getattr(artifact.manifest, name) for name in Description.model_fields}) == description
    read = artifact.weights()
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    assert torch.equal(artifact.examples()["x"], torch.ones(2, 3))
    assert torch.equal(artifact.expected()["k_next"], torch.ones(3))


def test_same_input_gives_same_bytes(write: Write, tmp_path: Path) -> None:
    first, second = content(write(tmp_path / "one" / "net.penstock")), content(write(tmp_path / "two.penstock"))
    assert first == second
    assert str(tmp_path).encode() not in b"".join(first.values())


def test_every_file_is_listed_with_its_hash(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "net.penstock")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert set(manifest["files"]) == set(content(folder)) - {"manifest.json"}
    assert manifest["files"]["lib/model.so"] == {"sha256": hashlib.sha256(b"object").hexdigest(), "size": 6}


def test_equal_weights_are_stored_once(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "net.penstock")
    assert set(load_file(folder / "weights.safetensors")) == {"a", "c"}
    assert open_artifact(folder).manifest.aliases == {"b": "a"}


def no_plan(*_: object) -> bytes:
    return b"{}\n"


def test_weights_that_no_function_takes_are_left_out(tmp_path: Path, description: Description) -> None:
    weights = {name: torch.ones(1) * index for index, name in enumerate("abcd")}
    write_artifact(tmp_path / "net", description, {"kernels/add.cl": b""}, weights, {}, no_plan)
    assert set(load_file(tmp_path / "net" / "weights.safetensors")) == {"a", "b", "c"}


def test_an_artifact_is_replaced(write: Write, tmp_path: Path, description: Description) -> None:
    folder = write(tmp_path / "net.penstock")
    other = description.model_copy(update={"model": "Other"})
    write_artifact(folder, other, {"kernels/add.cl": b""}, dict.fromkeys("abc", torch.ones(1)), {}, no_plan)
    assert open_artifact(folder).manifest.model == "Other"
    assert [path.name for path in tmp_path.iterdir()] == ["net.penstock"]


def test_a_damaged_artifact_is_replaced(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "net.penstock")
    (folder / "weights.safetensors").write_bytes(b"")
    assert open_artifact(write(folder)).manifest.model == "Net"


def test_what_a_link_leads_to_is_replaced(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "real.penstock")
    (tmp_path / "link.penstock").symlink_to(folder)
    (folder / "lib/model.so").unlink()
    write(tmp_path / "link.penstock")
    assert (tmp_path / "link.penstock").is_symlink()
    assert open_artifact(folder).manifest.model == "Net"


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "other manifest"])
def test_anything_else_is_not_replaced(write: Write, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        if kind != "empty folder":
            (path / ("manifest.json" if kind == "other manifest" else "chapter.txt")).write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="thesis exists and is not a penstock artifact; name another output"):
        write(path)
    assert path.exists()
    assert [found.name for found in tmp_path.iterdir()] == ["thesis"]


def test_files_of_the_user_in_an_artifact_are_not_lost(write: Write, tmp_path: Path) -> None:
    folder = write(tmp_path / "net.penstock")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes.txt', which penstock did not write"):
        check_destination(folder)
    with pytest.raises(UsageError, match=r"notes.txt"):
        write(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file/net.penstock"):
        write(tmp_path / "file" / "net.penstock")


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, description: Description) -> None:
    with pytest.raises(KeyError):
        write_artifact(tmp_path / "net.penstock", description, {"kernels/add.cl": b""}, {}, {}, no_plan)
    assert list(tmp_path.iterdir()) == []


def test_copy(write: Write, tmp_path: Path) -> None:
    source = write(tmp_path / "net.penstock")
    copy_artifact(open_artifact(source), tmp_path / "copy.penstock")
    assert content(source) == content(tmp_path / "copy.penstock")
    shutil.rmtree(source)
    assert open_artifact(tmp_path / "copy.penstock").manifest.model == "Net"

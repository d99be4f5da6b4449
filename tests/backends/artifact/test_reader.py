from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from penstock.backends.artifact import open_artifact
from penstock.backends.digest import sign
from penstock.passes.core.errors import UsageError

ALL_FILES = [
    "check.safetensors",
    "kernels/add.cl",
    "lib/model.so",
    "plan.json",
    "report.json",
    "weights.safetensors",
]


@pytest.fixture
def folder(write: Callable[[Path], Path], tmp_path: Path) -> Path:
    return write(tmp_path / "net.penstock")


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_artifact(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_manifest(folder: Path, edit: Callable[[Any], None]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_bytes())
    del data["digest"]
    edit(data)
    path.write_bytes(sign(json.dumps(data)[:-1]))


@pytest.mark.parametrize("name", ALL_FILES)
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder) == f"{folder / name} is missing; copy the artifact again or compile the model again"


@pytest.mark.parametrize("name", ALL_FILES)
def test_renamed_file(folder: Path, name: str) -> None:
    (folder / name).rename(folder / f"{name}.old")
    assert refusal(folder).startswith(f"{folder} holds '{name}.old', which its manifest does not list")


@pytest.mark.parametrize("name", ALL_FILES)
def test_truncated_file(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 1)
    assert f"{folder / name} is damaged: it has {size - 1} bytes, expected {size};" in refusal(folder)


@pytest.mark.parametrize("name", ALL_FILES)
def test_one_flipped_bit(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert f"{folder / name} is damaged: its content has changed since it was written;" in refusal(folder)


def test_no_artifact_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").endswith("none does not exist; name the folder that `penstock compile` wrote")
    assert "is not a penstock artifact: it holds no manifest.json" in refusal(tmp_path)


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net.penstock").write_bytes(b"PK")
    assert "is not a penstock artifact" in refusal(tmp_path / "net.penstock")


def test_a_renamed_folder_opens(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    assert open_artifact(moved).weights().keys() == {"a", "b", "c"}


def test_a_finder_file_is_no_damage(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"")
    assert open_artifact(folder).manifest.model == "Net"


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "lib/../../secret", "./report.json", "lib\\x", ""])
def test_names_that_lead_elsewhere(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"")
    record = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    edit_manifest(folder, lambda data: data["files"].update({name: record}))
    assert f"the file name '{name}' leads out of the artifact" in refusal(folder)


@pytest.mark.parametrize("name", ["report.json", "lib"])
def test_links_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "aside")
    (folder / name).symlink_to(tmp_path / "aside")
    message = refusal(folder)
    assert "is a link or no regular file" in message or "holds 'lib', which its manifest does not list" in message


def test_a_linked_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "aside")
    (folder / "manifest.json").symlink_to(tmp_path / "aside")
    assert "it holds no manifest.json" in refusal(folder)


def test_a_pipe_is_refused_without_waiting_for_a_writer(folder: Path) -> None:
    (folder / "report.json").unlink()
    os.mkfifo(folder / "report.json")
    assert "is a link or no regular file" in refusal(folder)


def resign(folder: Path, name: str) -> None:
    """Make the manifest fit a changed file, as somebody who means harm would."""
    content = (folder / name).read_bytes()
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    edit_manifest(folder, lambda data: data["files"].update({name: record}))


def test_a_weights_file_that_is_none(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"\xff" * 64)
    resign(folder, "weights.safetensors")
    with pytest.raises(UsageError, match=r"weights.safetensors is damaged: .*; compile the model again"):
        open_artifact(folder).weights()


def test_a_weight_that_is_not_there(folder: Path) -> None:
    save_file({"a": torch.ones(1)}, folder / "weights.safetensors")
    resign(folder, "weights.safetensors")
    with pytest.raises(UsageError, match=r"weights.safetensors lacks the tensor 'c'"):
        open_artifact(folder).weights()


def test_an_alias_of_nothing(folder: Path) -> None:
    edit_manifest(folder, lambda data: data["aliases"].update({"b": "z"}))
    with pytest.raises(UsageError, match=r"weights.safetensors is damaged: 'z'"):
        open_artifact(folder).weights()


def test_an_example_that_is_not_there(folder: Path) -> None:
    save_file({"input.x": torch.ones(1)}, folder / "check.safetensors")
    resign(folder, "check.safetensors")
    with pytest.raises(UsageError, match=r"check.safetensors lacks the tensor 'k'"):
        open_artifact(folder).examples()

"""Damaged, missing, exchanged and hostile files: each is refused, and the message names the file and the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.runtime import capi
from tests.backends.runtime.capi import Model, refusal
from tests.backends.runtime.plans import Json, edit, file_hash, put, seal, signed

pytestmark = pytest.mark.native
AGAIN = "; copy the artifact again or compile the model again"


def code_path(artifact: Path, kind: str) -> Path:
    return artifact / ("lib/model.so" if kind == "llvm" else "kernels/add_32.cl")


def test_files_with_another_hash_are_refused(artifact: Path, kind: str) -> None:
    for path in (artifact / "weights.safetensors", code_path(artifact, kind)):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        expected = f"{path.relative_to(artifact)}: its content has changed since it was written{AGAIN}"
        assert refusal(artifact) == expected
        path.write_bytes(content)
    Model(artifact)


def test_missing_files_and_folders_are_named(artifact: Path, kind: str, tmp_path: Path) -> None:
    absent = refusal(tmp_path / "absent")
    assert f"{tmp_path / 'absent'} is no folder that can be read: No such file or directory" in absent
    assert "name the folder that `penstock compile` wrote" in absent
    for path in (code_path(artifact, kind), artifact / "weights.safetensors", artifact / "plan.json"):
        content = path.read_bytes()
        path.unlink()
        expected = f"{path.relative_to(artifact)} cannot be read: No such file or directory{AGAIN}"
        assert refusal(artifact) == expected
        path.write_bytes(content)
    (artifact / "plan.json").unlink()
    (artifact / "plan.json").mkdir()
    assert refusal(artifact) == f"plan.json is no regular file{AGAIN}"


def test_a_fifo_is_refused_and_not_waited_for(artifact: Path) -> None:
    (artifact / "weights.safetensors").unlink()
    os.mkfifo(artifact / "weights.safetensors")
    assert refusal(artifact) == f"weights.safetensors is no regular file{AGAIN}"


@pytest.mark.parametrize(
    "name", ["../w", "a/../../w", "/etc/passwd", "", ".", "a//b", "./w", "a/", "..", "a\\b", "w\0"]
)
def test_names_that_lead_out_of_the_artifact_are_refused(name: str, artifact: Path, kind: str) -> None:
    (artifact.parent / "w").write_bytes((artifact / "weights.safetensors").read_bytes())
    edit(artifact, put("weights", "file", to=name))
    shown = name.partition("\0")[0]  # messages are C strings
    assert refusal(artifact).startswith(f"plan.json: weights.file: the file name '{shown}")
    edit(artifact, put("weights", "file", to="weights.safetensors"))
    place = ("library",) if kind == "llvm" else ("kernels", 0)
    edit(artifact, put(*place, "file", to=name))
    assert f".file: the file name '{shown}" in refusal(artifact)


def test_links_are_not_followed(artifact: Path, kind: str, tmp_path: Path) -> None:
    for path in (artifact / "weights.safetensors", code_path(artifact, kind), artifact / "plan.json"):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
        reason = "is a link or lies behind one, as no artifact holds one"
        assert refusal(artifact) == f"{path.relative_to(artifact)} {reason}{AGAIN}"
        path.unlink()
        (tmp_path / path.name).rename(path)
    folder = code_path(artifact, kind).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert "is a link or lies behind one" in refusal(artifact)


def resealed(artifact: Path, index: int, **fields: Any) -> Path:
    def change(plan: Json) -> None:
        kernel = plan["kernels"][index]
        kernel.update(fields)
        kernel["seal"] = seal(kernel, kernel["sha256"] or plan["library"]["sha256"])

    return edit(artifact, change)


def test_a_kernel_that_the_code_lacks_is_named(artifact: Path, kind: str) -> None:
    message = refusal(resealed(artifact, 1, entry="thrice"))
    place = "lib/model.so has no function" if kind == "llvm" else "kernels/twice_32.cl has no kernel"
    assert f"{place} 'thrice'" in message


def test_code_that_is_none_is_refused(artifact: Path, kind: str) -> None:
    path = code_path(artifact, kind)
    path.write_bytes(b"no code")
    if kind == "llvm":

        def change(plan: Json) -> None:
            plan["library"]["sha256"] = file_hash(path)
            for kernel in plan["kernels"]:
                kernel["seal"] = seal(kernel, file_hash(path))

        message = refusal(edit(artifact, change), capi.NO_DEVICE)
        assert message.startswith("lib/model.so does not load on this machine: ")
    else:
        message = refusal(resealed(artifact, 0, sha256=file_hash(path)), capi.FAILED)
        assert "does not compile kernels/add_32.cl" in message


def test_kernels_for_another_device_are_named(artifact: Path) -> None:
    plan = json.loads((artifact / "plan.json").read_bytes())
    plan |= {"kind": "metal", "library": None, "kernels": [], "graphs": {}, "phases": []}
    (artifact / "plan.json").write_bytes(signed(plan))
    message = refusal(artifact, capi.NO_DEVICE)
    assert "holds metal kernels, which this runner cannot launch; compile the model for llvm or opencl" in message


def test_a_device_that_is_too_small_is_named(artifact: Path, kind: str) -> None:
    edit(artifact, put("arenas", to=[2**60, 256]))
    message = refusal(artifact, capi.NO_MEMORY if kind == "llvm" else capi.NO_DEVICE)
    assert str(2**60) in message
    if kind == "opencl":
        edit(artifact, put("arenas", to=[1024, 256]))
        message = refusal(resealed(artifact, 0, block=[2**31, 2**31, 2**31]), capi.NO_DEVICE)
        assert "kernel 'add_32' needs more threads or local memory per work-group than opencl" in message


def test_hashes_that_the_caller_has_compared_are_not_compared_again(artifact: Path) -> None:
    weights = artifact / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "weights.safetensors: its content has changed" in refusal(artifact)
    _, z = Model(artifact, skip_hashes=1).run(np.zeros((4, 32), np.int32))
    assert np.array_equal(z[:-1], np.arange(96, 127))
    assert z[-1] == 127 ^ 0x01000000

"""Writing an artifact in one atomic step, file by file: no more than one file's content is held in memory."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from penstock.backends.artifact import tensors
from penstock.backends.artifact.atomic import staged_folder
from penstock.backends.artifact.manifest import MANIFEST, Description, FileRecord, Manifest
from penstock.backends.artifact.reader import SYSTEM_FILES, Artifact, files_below
from penstock.backends.artifact.weights import store_weights
from penstock.backends.digest import file_digest
from penstock.backends.plan.encoding import PLAN
from penstock.passes.core.errors import UsageError


def write_artifact(
    destination: Path,
    description: Description,
    files: Mapping[str, bytes],
    weights: Mapping[str, torch.Tensor],
    check: Mapping[str, torch.Tensor],
    plan: Callable[[str, Mapping[str, str]], bytes],
) -> None:
    """Write an artifact, replacing one that is there.

    Args:
        description: everything the manifest says but file hashes.
        files: libraries, kernel sources, reports, by relative path.
        weights: at least those that the functions take; others are left out.
        check: example inputs and expected outputs, see `tensors.check_tensors`.
        plan: makes the text of the launch plan from the weights file's digest and the names that weights are stored
            under where it is not their own.

    Raises:
        UsageError: `destination` holds something else, or cannot be written.
    """
    with _staged(destination) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        held = folder / tensors.WEIGHTS
        aliases = store_weights(held, {name: weights[name] for name in description.weight_names})
        (folder / PLAN).write_bytes(plan(file_digest(held), aliases))
        tensors.store(folder / tensors.CHECK, check)
        records = {
            name: FileRecord(sha256=file_digest(path), size=path.stat().st_size)
            for name, path in files_below(folder).items()
        }
        manifest = Manifest(**dict(description), aliases=aliases, files=records)
        (folder / MANIFEST).write_bytes(manifest.to_json())


def copy_artifact(artifact: Artifact, destination: Path) -> None:
    """Copy an artifact, replacing one that is there.

    Raises:
        UsageError: `destination` holds something else, or cannot be written.
    """
    with _staged(destination) as folder:
        for name in (*artifact.manifest.files, MANIFEST):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.path / name, folder / name)


def check_destination(destination: Path) -> None:
    """Refuse to replace anything but an artifact; worth asking before long work.

    Raises:
        UsageError: there is something else, or the artifact there holds files that penstock did not write.
    """
    if not destination.exists():
        return
    way_out = "name another output or move it away"
    listed = _listed_files(destination)
    if listed is None:
        raise UsageError(f"{destination} exists and is not a penstock artifact; {way_out}")
    strange = sorted(set(files_below(destination)) - listed - SYSTEM_FILES)
    if strange:
        raise UsageError(f"{destination} holds '{strange[0]}', which penstock did not write; {way_out}")


@contextlib.contextmanager
def _staged(destination: Path) -> Iterator[Path]:
    """A folder to fill in place of `destination`; failures of the file system as errors of ours."""
    destination = destination.resolve()  # where a link leads
    try:
        check_destination(destination)
        with staged_folder(destination) as folder:
            yield folder
    except OSError as error:
        raise UsageError(f"cannot write {destination}: {error.strerror or error}") from error


def _listed_files(folder: Path) -> set[str] | None:
    """The files of an artifact of any version by its manifest, or None for anything else."""
    try:
        data: Any = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("format") != "penstock" or not isinstance(data.get("files"), dict):
        return None
    return {MANIFEST, *data["files"]}

"""Reading an artifact: every file is checked before anything in it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from penstock.backends.artifact import tensors
from penstock.backends.artifact.manifest import MANIFEST, FileRecord, Manifest, parse_manifest
from penstock.backends.digest import file_digest
from penstock.passes.core.errors import UsageError

_AGAIN = "copy the artifact again or compile the model again"
SYSTEM_FILES = frozenset({".DS_Store"})  # macOS puts one into every folder that is looked at


@dataclass(frozen=True)
class Artifact:
    """A checked artifact.

    Attributes:
        path: its folder.
        manifest: what it is.
    """

    path: Path
    manifest: Manifest

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights by name, mapped from the file."""
        found = tensors.read(self.path / tensors.WEIGHTS, self.manifest.aliases)
        return self._complete(found, self.manifest.weight_names, tensors.WEIGHTS)

    def examples(self) -> dict[str, torch.Tensor]:
        """The inputs that the model was captured with, by name; for a state, its initial value."""
        return self._check_tensors("input.", [spec.name for spec in self.manifest.signature.inputs])

    def expected(self) -> dict[str, torch.Tensor]:
        """What PyTorch eager gave for the example inputs, by output name."""
        return self._check_tensors("output.", [spec.name for spec in self.manifest.signature.outputs])

    def _check_tensors(self, prefix: str, names: list[str]) -> dict[str, torch.Tensor]:
        found = tensors.read(self.path / tensors.CHECK)
        named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        return self._complete(named, names, tensors.CHECK)

    def _complete(self, found: dict[str, torch.Tensor], names: list[str], file: str) -> dict[str, torch.Tensor]:
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            raise UsageError(f"{self.path / file} lacks the tensor '{missing}'; {_AGAIN}")
        return found


def open_artifact(path: Path) -> Artifact:
    """Open an artifact after checking that every file is there, unchanged, and accounted for.

    Raises:
        UsageError: names the first file that is wrong, what is wrong, and what to do.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; name the folder that `penstock compile` wrote")
    if not (path / MANIFEST).is_file() or (path / MANIFEST).is_symlink():
        raise UsageError(f"{path} is not a penstock artifact: it holds no {MANIFEST}")
    manifest = parse_manifest((path / MANIFEST).read_bytes(), str(path / MANIFEST))
    found = files_below(path)
    strange = sorted(set(found) - {*manifest.files, MANIFEST} - SYSTEM_FILES)
    if strange:
        raise UsageError(f"{path} holds '{strange[0]}', which its manifest does not list; remove it, or {_AGAIN}")
    for name, record in manifest.files.items():
        _check_file(path / name, name in found, record)
    return Artifact(path, manifest)


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below a folder by relative path; a link counts as a file, wherever it leads."""
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*files, *links):
            path = Path(parent) / name
            found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def _check_file(path: Path, is_there: bool, record: FileRecord) -> None:
    if not is_there:
        raise UsageError(f"{path} is missing; {_AGAIN}")
    if path.is_symlink() or not path.is_file():
        raise UsageError(f"{path} is a link or no regular file, as no artifact holds one; {_AGAIN}")
    size = path.stat().st_size
    if size != record.size:
        raise UsageError(f"{path} is damaged: it has {size} bytes, expected {record.size}; {_AGAIN}")
    if file_digest(path) != record.sha256:
        raise UsageError(f"{path} is damaged: its content has changed since it was written; {_AGAIN}")

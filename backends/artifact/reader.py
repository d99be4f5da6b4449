"""Reading an artifact: every file is checked before anything in it is used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from penstock.backends.artifact.manifest import FILE_NAME, FileEntry, Manifest
from penstock.backends.targets import Limits, Target
from penstock.passes.core.errors import UsageError

_AGAIN = "compile the model again"


@dataclass(frozen=True)
class Artifact:
    """A checked artifact.

    Attributes:
        path: its folder.
        manifest: what it is.
    """

    path: Path
    manifest: Manifest

    @property
    def target(self) -> Target:
        """The device it was compiled for."""
        data = dict(self.manifest.target)
        return Target(**{**data, "limits": Limits(**data["limits"])})

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights by name, mapped from the file."""
        stored = self.tensors("weights.safetensors")
        return stored | {name: stored[original] for name, original in self.manifest.weight_aliases.items()}

    def tensors(self, file: str) -> dict[str, torch.Tensor]:
        """The tensors of one safetensors file."""
        try:
            return load_file(self.path / file)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{self.path / file} is damaged ({error}); {_AGAIN}") from error


def is_artifact(path: Path) -> bool:
    """Whether a path looks like an artifact, whole or damaged."""
    return path.is_dir() and (path / FILE_NAME).is_file()


def open_artifact(path: Path) -> Artifact:
    """Open an artifact after checking that every file is there, unchanged, and accounted for.

    Raises:
        UsageError: with the first file that is wrong, and how.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if not is_artifact(path):
        raise UsageError(f"{path} is not a penstock artifact: it holds no {FILE_NAME}")
    manifest = Manifest.from_json((path / FILE_NAME).read_bytes(), str(path / FILE_NAME))
    for name, entry in manifest.files.items():
        _check_file(path, name, entry)
    known = {*manifest.files, FILE_NAME}
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        if not found.is_dir() and name not in known:
            raise UsageError(f"{path} holds '{name}', which its manifest does not list; remove it or {_AGAIN}")
    return Artifact(path, manifest)


def _check_file(path: Path, name: str, entry: FileEntry) -> None:
    pure = PurePosixPath(name)
    file = path / name
    if pure.is_absolute() or ".." in pure.parts or not file.resolve().is_relative_to(path.resolve()):
        raise UsageError(f"{path / FILE_NAME} lists '{name}', which lies outside the artifact; do not use it")
    if not file.is_file():
        raise UsageError(f"{path} lacks '{name}', which its manifest lists; {_AGAIN}")
    size = file.stat().st_size
    if size != entry.size:
        raise UsageError(f"{file} has {size} bytes, its manifest says {entry.size}; {_AGAIN}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != entry.sha256:
        raise UsageError(f"{file} was changed after it was written (its SHA-256 differs); {_AGAIN}")

"""The compile cache: finished artifacts by the hash of everything that shapes them.

It lies in the user's cache folder, or where the environment variable PENSTOCK_CACHE points. Entries are artifacts, so
what was damaged on disk is noticed and compiled again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock

from penstock.backends.artifact import open_artifact, write_artifact
from penstock.backends.artifact.manifest import FILE_NAME, tool_versions
from penstock.backends.targets import Target
from penstock.passes.core.errors import UsageError
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program

LIMIT_BYTES = 10 * 2**30
"""When the cache grows beyond this, the entries unused for longest go."""


def cache_folder() -> Path:
    """Where the cache lies."""
    override = os.environ.get("PENSTOCK_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("penstock")) / "artifacts"


def cache_key(program: Program, target: Target, *settings: Any) -> str:
    """The hash of the Program (graphs, weights, examples), the target, the settings, and every tool's version."""
    digest = hashlib.sha256()

    def add(text: str) -> None:
        digest.update(text.encode())
        digest.update(b"\0")

    add(format_program(program, sources=True))
    add(repr((program.plan, program.signature, program.provenance)))
    for name, tensor in (*program.weights.items(), *enumerate(program.examples)):
        add(f"{name} {tensor.dtype} {tuple(tensor.shape)}")
        digest.update(_bytes_of(tensor))
    add(repr(dataclasses.asdict(target)))
    add(repr(settings))
    add(repr(sorted(tool_versions().items())))
    add(_own_source())
    return digest.hexdigest()


def cached(key: str, build: Callable[[], dict[str, bytes]]) -> tuple[dict[str, bytes], bool]:
    """The files of the artifact with that key, built and kept if they are not there.

    Returns:
        The files by relative path, and whether they came from the cache.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / f"{key}.penstock"
    with FileLock(folder / f"{key}.lock"):
        if entry.exists():
            try:
                artifact = open_artifact(entry)
                os.utime(entry)
                return {name: (entry / name).read_bytes() for name in (*artifact.manifest.files, FILE_NAME)}, True
            except UsageError:
                shutil.rmtree(entry, ignore_errors=True)
        files = build()
        write_artifact(entry, files)
    _evict(folder, keep=entry)
    return files, False


def _bytes_of(tensor: torch.Tensor) -> Any:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def _evict(folder: Path, keep: Path) -> None:
    entries = sorted(folder.glob("*.penstock"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for entry in entries:
        total += sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
        if total > LIMIT_BYTES and entry != keep:
            shutil.rmtree(entry, ignore_errors=True)
            (folder / f"{entry.stem}.lock").unlink(missing_ok=True)


@cache
def _own_source() -> str:
    """One hash of penstock's own files, so that an edited pass or kernel never meets an old entry."""
    digest = hashlib.sha256()
    for path in sorted(_source_files()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files() -> Iterator[Path]:
    import penstock

    for root in penstock.__path__:
        for current, _, files in os.walk(root, followlinks=True):
            for name in files:
                if name.endswith((".py", ".toml", ".j2")):
                    yield Path(current) / name

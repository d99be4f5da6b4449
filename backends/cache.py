"""The compile cache: finished artifacts, by the hash of everything that shapes them.

It lies in the user's cache folder, or where the environment variable PENSTOCK_CACHE points. Entries are artifacts with
hashes of their files, so that one which was damaged on disk is noticed and compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from penstock.backends.artifact import Artifact, copy_artifact, open_artifact
from penstock.backends.digest import file_digest, tensor_digest
from penstock.passes.core.errors import UsageError
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program

LIMIT_BYTES = 10 * 2**30
_TOOLS = ("penstock", "torch", "apache-tvm", "apache-tvm-ffi")
_log = logging.getLogger(__name__)


class Cache:
    """A folder of artifacts; several processes may use it at once.

    Args:
        folder: where it lies; the default is `cache_folder`.
        limit_bytes: when it grows beyond this, the entries unused for longest go.

    Attributes:
        hits: how often `fetch` found an entry.
        misses: how often it had to make one.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or cache_folder()
        self.limit_bytes = limit_bytes
        self.hits = 0
        self.misses = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the compile cache cannot use {self.folder}: {error.strerror}; "
                f"set PENSTOCK_CACHE to another folder, or compile without the cache"
            ) from error

    def fetch(self, key: str, destination: Path, make: Callable[[Path], None]) -> None:
        """Copy the entry of a key to `destination`; `make` writes the artifact first if there is no sound entry."""
        entry = self.folder / f"{key}.penstock"
        with self._lock(key):
            artifact = _sound(entry)
            if artifact is None:
                self.misses += 1
                make(entry)
                artifact = open_artifact(entry)
            else:
                self.hits += 1
                os.utime(entry)
            copy_artifact(artifact, destination)
        with contextlib.suppress(FileNotFoundError):  # other processes remove entries as well
            self._evict(keep=entry)

    def _lock(self, key: str, timeout: float = -1) -> FileLock:
        return FileLock(self.folder / f"{key}.lock", timeout=timeout)

    def _evict(self, keep: Path) -> None:
        """Remove the entries unused for longest until the rest fits. One that another process holds stays."""
        entries = sorted(self.folder.glob("*.penstock"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for entry in entries:
            total += sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
            if total > self.limit_bytes and entry != keep:
                try:
                    with self._lock(entry.stem, timeout=0):
                        shutil.rmtree(entry, ignore_errors=True)
                except Timeout:
                    continue


def _sound(entry: Path) -> Artifact | None:
    """The entry, unless there is none or it is damaged; then it is removed."""
    if not entry.exists():
        return None
    try:
        return open_artifact(entry)
    except UsageError as error:
        _log.warning("a cache entry is made again: %s", error)
        shutil.rmtree(entry, ignore_errors=True)
        return None


def cache_folder() -> Path:
    """Where the cache lies."""
    chosen = os.environ.get("PENSTOCK_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("penstock")) / "artifacts"


def program_cache() -> Path:
    """Where OpenCL programs lie that a driver has compiled."""
    return cache_folder() / "programs"


def cache_key(program: Program, settings: Mapping[str, str]) -> str:
    """The hash of a Program with its weights and examples, the settings, and every tool.

    Args:
        settings: everything else that shapes the artifact: the target, the machine, options, reports.
    """
    parts = {
        "program": format_program(program, sources=True),
        "border": repr((program.plan, program.signature)),
        "provenance": program.provenance,
        "weights": {name: tensor_digest(tensor) for name, tensor in program.weights.items()},
        "examples": [tensor_digest(tensor) for tensor in program.examples],
        "settings": dict(settings),
        "tools": tool_versions(),
        "source": _own_source(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def tool_versions() -> dict[str, str]:
    """The versions of everything that shapes the code in an artifact."""
    return {name: _version(name) for name in _TOOLS}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # penstock itself, run from its sources


@functools.cache
def _own_source() -> str:
    """One hash of penstock's own files, so that an edited pass or kernel never meets an old entry."""
    root = Path(__file__).parents[1]
    files = {str(path.relative_to(root)): file_digest(path) for path in _files_below(root)}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _files_below(root: Path) -> Iterator[Path]:
    for folder, _, files in os.walk(root, followlinks=True):
        yield from (Path(folder) / name for name in files if not name.endswith(".pyc"))

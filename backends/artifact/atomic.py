"""Making a folder appear all at once, or not at all.

Content is staged in a hidden sibling, forced to disk, and renamed. A kill at any moment leaves the old folder or the
new one, never a mixture; what a killed run staged is removed by the next run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

import psutil

from penstock.backends.native import native_library
from penstock.passes.core.errors import UsageError


def replace_folder(destination: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder, replacing the one that is there in a single step.

    Args:
        destination: the folder; its parent is made if missing.
        files: relative path to content.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(destination)
        with _staging(destination) as staged:
            for name, content in files.items():
                _write(staged / name, content)
            _sync_folders(staged)
            _publish(staged, destination)
    except OSError as error:
        raise UsageError(f"cannot write {destination}: {error.strerror or error}") from error


def _stem(destination: Path) -> str:
    return f".{destination.name}.partial-"


@contextlib.contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    staged = destination.parent / f"{_stem(destination)}{os.getpid()}-{threading.get_ident()}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        with _terminate_politely():
            yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def _terminate_politely() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that what is staged is removed."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folders(folder: Path) -> None:
    for current, _, _ in os.walk(folder):
        _sync(Path(current))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(staged: Path, destination: Path) -> None:
    if destination.exists():
        if not _exchange(staged, destination):
            # Without an exchange in one step there is a moment with neither; the old folder waits beside it.
            old = staged.with_name(f"{staged.name}-old")
            destination.rename(old)
            staged.rename(destination)
            shutil.rmtree(old, ignore_errors=True)
    else:
        staged.rename(destination)
    _sync(destination.parent)


def _exchange(first: Path, second: Path) -> bool:
    library = native_library()
    return library is not None and library.penstock_exchange_paths(os.fsencode(first), os.fsencode(second)) == 0


def _remove_leftovers(destination: Path) -> None:
    """Remove what runs that are gone have staged; put back an old folder that one had moved aside."""
    for leftover in destination.parent.glob(f"{_stem(destination)}*"):
        owner = leftover.name.removeprefix(_stem(destination)).split("-")[0]
        if owner.isdigit() and psutil.pid_exists(int(owner)):
            continue
        if leftover.name.endswith("-old") and not destination.exists():
            leftover.rename(destination)
        else:
            shutil.rmtree(leftover, ignore_errors=True)

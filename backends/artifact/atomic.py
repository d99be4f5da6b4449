"""Making a folder appear all at once, or not at all.

It is staged under a hidden name beside its final place, forced to disk, and renamed. A kill at any moment leaves the
old folder, the new one, or (only where the system cannot swap two paths) none; never a part. What a killed run leaves
under hidden names is removed by the next write to the same place.

A live writer holds a lock on its staging folder, so a leftover is one whose lock is free: the system gives the lock
back when the writer ends, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from penstock.backends.native import native_library

_STAGING, _REPLACED = "staging", "replaced"


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; put it in the place of `final` when the block ends without an exception.

    Args:
        final: may exist; then it is replaced as a whole. Its parent is made if missing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _clean_up(final)
    with _terminable():
        staging, lock = _make_staging(final)
        try:
            yield staging
            _sync_tree(staging)
            _put(staging, final)
            _sync(final.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # unfinished, or the old folder after a swap
            os.close(lock)
            _clean_up(final)


def _hidden(final: Path, kind: str) -> Path:
    return final.with_name(f".{final.name}.{secrets.token_hex(4)}.{kind}")


def _leftovers(final: Path, kind: str) -> list[Path]:
    name = re.compile(rf"\.{re.escape(final.name)}\.[0-9a-f]{{8}}\.{kind}")
    return sorted(path for path in final.parent.iterdir() if name.fullmatch(path.name))


def _make_staging(final: Path) -> tuple[Path, int]:
    """A new hidden folder, and the descriptor that holds its lock."""
    while True:
        staging = _hidden(final, _STAGING)
        staging.mkdir()
        # Until the lock is held, another writer may take the folder for a leftover and remove it.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(staging, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if staging.exists():
                return staging, lock
            os.close(lock)


def _clean_up(final: Path) -> None:
    """Remove what killed runs left, and bring back a folder that one of them had moved aside."""
    for replaced in _leftovers(final, _REPLACED):
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # another writer was quicker
                replaced.rename(final)
    for staging in _leftovers(final, _STAGING):
        with contextlib.suppress(OSError):
            lock = os.open(staging, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(staging)
            finally:
                os.close(lock)


def _put(staging: Path, final: Path) -> None:
    while True:
        try:
            staging.rename(final)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _exchange(staging, final):
            return
        with contextlib.suppress(FileNotFoundError):  # another writer moved it first
            final.rename(_hidden(final, _REPLACED))


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; False where the system cannot, or where one of them has gone."""
    library = native_library()
    if library is None:
        return False
    code: int = library.penstock_exchange_paths(os.fsencode(first), os.fsencode(second))
    return code == 0


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the block cleans up. A handler of the user's own stays."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

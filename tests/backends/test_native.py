from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.backends import native
from penstock.backends.native import native_library, native_version


def test_a_library_that_does_not_load_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "libpenstock_runtime.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "_candidates", lambda: [tmp_path / "absent" / broken.name, broken])
    native_library.cache_clear()
    try:
        assert native_library() is None
        assert native_version() is None
        assert f"the native library {broken} does not load" in caplog.text
    finally:
        native_library.cache_clear()


@pytest.mark.native
def test_exchanging_two_folders(tmp_path: Path) -> None:
    library = native_library()
    assert library is not None
    assert native_version() == "0.1.0"
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / folder.name).touch()
    assert library.penstock_exchange_paths(os.fsencode(first), os.fsencode(second)) == 0
    assert (first / "second").exists()
    assert library.penstock_exchange_paths(os.fsencode(first), os.fsencode(tmp_path / "none")) != 0


@pytest.mark.native
@pytest.mark.skipif(shutil.which("strip") is None, reason="measures what `strip` leaves")
def test_the_stripped_library_is_small(tmp_path: Path) -> None:
    library = native_library()
    assert library is not None
    subprocess.run(["strip", "-o", tmp_path / "stripped.so", library._name], check=True)
    assert (tmp_path / "stripped.so").stat().st_size < 1_000_000

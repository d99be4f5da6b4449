"""Builds of the runner and of the driver that tries it, kept in build/tests until their sources change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from tests.backends.runtime.plans import BUILD, ROOT

SANITIZERS = {
    "address,undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
    "": [],
}
OPTIONS = {
    # Sizes that cannot be had are an answer and not a defect; a report ends the process, so that it is seen.
    "ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=99",
    "LSAN_OPTIONS": f"suppressions={Path(__file__).with_name('leaks.supp')}:print_suppressions=0",
}


def driver(sanitize: str = "") -> Path:
    """The program of driver.cc."""
    source = Path(__file__).with_name("driver.cc")
    return _built(f"driver{_name(sanitize)}", [source], [f"-I{RUNTIME / 'include'}", "-ldl", *SANITIZERS[sanitize]])


def library(sanitize: str) -> Path:
    """The runner with a sanitizer."""
    flags = ["-shared", "-fPIC", f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}", '-DPENSTOCK_VERSION="test"']
    sources = sorted((RUNTIME / "src").glob("*.cc"))
    return _built(f"runner{_name(sanitize)}.so", sources, [*flags, "-pthread", "-ldl", *SANITIZERS[sanitize]])


def environment(sanitize: str) -> dict[str, str]:
    """The environment for a program with a sanitizer."""
    return {**os.environ, **(OPTIONS if sanitize else {})}


def _name(sanitize: str) -> str:
    return "".join(f"-{part}" for part in sanitize.split(",") if part)


def _built(name: str, sources: Iterable[Path], flags: list[str]) -> Path:
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    assert compiler is not None, "these tests need a C++ compiler (Debian: apt install g++)"
    command = [compiler, "-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", *map(str, sources), *flags]
    headers = sorted(RUNTIME.rglob("*.h"))
    key = hashlib.sha256(repr((command, [path.read_bytes() for path in (*headers, *sources)])).encode()).hexdigest()[
        :16
    ]
    built = BUILD / key / name
    BUILD.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / f"{key}.lock"):
        if not built.exists():
            built.parent.mkdir(exist_ok=True)
            partial = built.with_suffix(".partial")
            subprocess.run([*command, "-o", partial], check=True)
            partial.rename(built)
    return built


RUNTIME = ROOT / "backends" / "runtime"

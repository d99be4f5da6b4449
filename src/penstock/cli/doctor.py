"""`penstock doctor`: what is installed, what is missing for what, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.backends.cxx import INSTALL, NAMES, find_compiler
from penstock.cli.options import global_options
from penstock.cli.output import Output
from penstock.passes.core.errors import MissingToolError

if TYPE_CHECKING:
    from rich.console import Console

PINNED = ("torch", "apache-tvm", "apache-tvm-ffi")
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One thing that penstock may need.

    Attributes:
        name: what it is.
        ok: whether it is there and fits.
        found: what was found.
        needed_for: what does not work without it.
        required: whether nothing works without it (compiling for this computer is the measure).
        mend: the command or setting that mends it.
    """

    name: str
    ok: bool
    found: str
    needed_for: str
    required: bool = False
    mend: str = ""


@click.command()
@global_options
@click.pass_obj
def doctor(output: Output) -> None:
    """Check this computer: what is there, what is missing for what, and how to mend it.

    Exits with 6 if something is missing that compiling for this computer (--target llvm) needs.
    """
    checks = list(run_checks())

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        rows = [("ok" if check.ok else "missing", check.name, check.found, check.needed_for) for check in checks]
        console.print(table(["", "what", "found", "needed for"], rows))
        for check in checks:
            if not check.ok:
                console.print(f"{check.name}: {check.mend}", markup=False, soft_wrap=True)

    output.result({"checks": [asdict(check) for check in checks]}, draw)
    missing = [check.name for check in checks if check.required and not check.ok]
    if missing:
        output.note(f"missing: {', '.join(missing)}")
        sys.exit(MissingToolError.exit_code)


def run_checks() -> Iterator[Check]:
    """Look at everything, the required things first. Nothing is imported, started or changed."""
    version = platform.python_version()
    new_enough = sys.version_info >= (3, 11)
    yield Check("Python", new_enough, version, "everything", True, "install Python 3.11 or newer")
    for package in PINNED:
        yield _package(package)
    yield _compiler()
    yield _native_library()
    yield _opencl()
    yield _simulator()
    yield _cmake()
    yield _arm64()
    yield _clang()
    yield _ndk()
    yield _xcode()
    yield _memory()


def _package(name: str) -> Check:
    pinned = pinned_version(name)
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = ""
    ok = bool(found) and (not pinned or found.partition("+")[0] == pinned)
    shown = found or "not installed"
    if found and not ok:
        shown += f", expected {pinned}"
    use = "capture and passes" if name == "torch" else "compile"
    return Check(name, ok, shown, use, True, f"{sys.executable} -m pip install '{name}=={pinned}'")


def pinned_version(package: str) -> str:
    """The version of a package that penstock's own metadata asks for, or '' for none."""
    for requirement in importlib.metadata.requires("penstock") or []:
        match = re.fullmatch(rf"{re.escape(package)}==([\w.]+)", requirement)
        if match:
            return match[1]
    return ""


def _compiler() -> Check:
    found = find_compiler()
    shown = found or f"none of {os.environ.get('CXX') or ', '.join(NAMES)}"
    return Check("C++ compiler", found is not None, shown, "compile", True, INSTALL)


def _native_library() -> Check:
    from penstock.backends.native import native_version

    version = native_version()
    found = version or "not built, or does not load"
    mend = f"{sys.executable} -m pip install -e . --no-deps"
    return Check("native library", version is not None, found, "run artifacts here", mend=mend)


def _opencl() -> Check:
    from penstock.backends.native import native_library
    from penstock.backends.runner import opencl_devices

    devices = opencl_devices() if native_library() is not None else []
    found = ", ".join(devices) or "no device"
    mend = "install the GPU's driver, or apt-get install pocl-opencl-icd, or pip install pocl-binary-distribution"
    return Check("OpenCL", bool(devices), found, "run OpenCL artifacts here", mend=mend)


def _simulator() -> Check:
    from penstock.backends.native import native_library

    lacking = [
        *(() if find_compiler() else ("a C++ compiler",)),
        *(() if native_library() else ("the native library",)),
    ]
    found = f"lacks {' and '.join(lacking)}" if lacking else f"compiles kernels with {find_compiler()}"
    mend = "see C++ compiler and native library"
    return Check("GPU simulator", not lacking, found, "verify artifacts for phone GPUs here", mend=mend)


def _cmake() -> Check:
    found = shutil.which("cmake")
    return Check(
        "cmake", found is not None, found or "not there", "build the runner for a device", mend="pip install cmake"
    )


def _arm64() -> Check:
    tools = ("aarch64-linux-gnu-g++", "qemu-aarch64")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    found = f"no {', no '.join(missing)}" if missing else ", ".join(tools)
    mend = "apt-get install g++-aarch64-linux-gnu qemu-user"
    return Check("arm64 tools", not missing, found, "build for arm64 Linux, and try it here", mend=mend)


def _clang() -> Check:
    missing = [tool for tool in ("clang", "ld.lld") if shutil.which(tool) is None]
    found = f"no {', no '.join(missing)}" if missing else str(shutil.which("clang"))
    mend = "apt-get install clang lld"
    return Check("clang and lld", not missing, found, "CPU kernels for Android and iOS, without their kits", mend=mend)


def _ndk() -> Check:
    names = ("TVM_NDK_CC", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK")
    name = next((name for name in names if os.environ.get(name)), None)
    path = Path(os.environ[name]) if name else None
    ok = path is not None and path.exists()
    found = f"{name}={path}" + ("" if ok else ", which does not exist") if name else "no variable set"
    return Check("Android NDK", ok, found, "build the runner for Android", mend=f"unpack an NDK and set {names[1]}")


def _xcode() -> Check:
    found = shutil.which("xcrun")
    here = sys.platform == "darwin"
    mend = (
        "install Xcode, then xcode-select --switch" if here else "only macOS has it; elsewhere kernels ship as source"
    )
    return Check("Xcode", found is not None, found or "no xcrun", "precompiled Metal libraries", mend=mend)


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.total / _GIB:.1f} GiB, {memory.available / _GIB:.1f} GiB free"
    return Check("memory", memory.total >= 4 * _GIB, found, "compile large models", mend="use a computer with 4 GiB")

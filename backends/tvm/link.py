"""Linking CPU kernels into one shared library, for this machine or, with a cross compiler, for another."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from penstock.backends.targets import Target
from penstock.backends.tvm.kernels import BuildError
from penstock.passes.core.errors import MissingToolError

_ANY = ["-shared", "-fPIC", "-O2", "-s", "-Wl,--build-id=none", "-Wl,-z,max-page-size=16384"]
_IN_LIBC = re.compile(r"mem(cpy|set|move)|abort|__stack_chk_fail")


def link(objects: Mapping[str, bytes], target: Target) -> bytes:
    """One shared library, without anything that depends on where or when it was linked.

    Raises:
        MissingToolError: there is no compiler that links for the target.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-") as name:
        folder = Path(name)
        for file, content in objects.items():
            (folder / file).write_bytes(content)
        files = sorted(objects)
        if "android" in target.host:
            _link_for_android(folder, files, target.host)
        elif "apple" in target.host:
            linker = shutil.which("ld64.lld") or shutil.which("ld64.lld-14") or _missing("lld", "apt install lld")
            version = target.host.rpartition("ios")[2]
            platform = ["-arch", "arm64", "-platform_version", "ios", version, version]
            _run(
                folder,
                [linker, "-dylib", *platform, "-undefined", "dynamic_lookup", "-o", "model.so", *files],
            )
        else:
            _run(folder, [_compiler(target), *_ANY, "-o", "model.so", *files, "-lm"])
        return (folder / "model.so").read_bytes()


def _compiler(target: Target) -> str:
    names = [f"{target.host}-gcc"] if target.host else ["cc", "gcc", "clang"]
    found = next(filter(None, map(shutil.which, names)), None)
    advice = (
        f"apt install gcc-{target.host}" if target.host else "Debian: apt install gcc, macOS: xcode-select --install"
    )
    return found or _missing(f"C compiler ({', '.join(names)})", advice)


def _clang() -> str:
    return shutil.which("clang") or _missing("clang", "apt install clang lld")


def _missing(what: str, advice: str) -> str:
    raise MissingToolError(f"no {what} on the PATH to link the library with; install one ({advice})")


def _link_for_android(folder: Path, files: list[str], triple: str) -> None:
    """Link without an NDK: clang and lld know the target, and empty libraries stand in for Android's libm and libc.

    The stand-ins only carry the names of what the kernels call, so that the library asks the device for the real ones.
    """
    clang = [_clang(), f"--target={triple}", "-fuse-ld=lld", "-nostdlib", "-ffreestanding"]
    if not (shutil.which("ld.lld") or shutil.which("lld")):
        _missing("lld", "apt install lld")
    _run(folder, [*clang, *_ANY, "-o", "undefined.so", *files])
    names = _undefined(folder / "undefined.so")
    in_libc = [name for name in names if _IN_LIBC.fullmatch(name)]
    in_libm = [name for name in names if name not in in_libc]
    stubs = []
    for library, wanted in (("libc.so", in_libc), ("libm.so", in_libm)):
        (folder / "stub.c").write_text("".join(f"void {name}(void) {{}}\n" for name in wanted))
        options = ["-w", "-fno-builtin", "-shared", "-fPIC", f"-Wl,-soname,{library}"]
        _run(folder, [*clang, *options, "-o", library, "stub.c"])
        stubs.append(library)
    _run(folder, [*clang, *_ANY, "-Wl,-soname,libmodel.so", "-Wl,--no-as-needed", "-o", "model.so", *files, *stubs])


def _undefined(library: Path) -> list[str]:
    tool = shutil.which("nm") or shutil.which("llvm-nm") or _missing("nm", "apt install binutils")
    done = subprocess.run([tool, "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    return sorted({line.split()[-1] for line in done.stdout.splitlines() if line.split()})


def _run(folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise BuildError(
            f"{Path(command[0]).name} cannot link the library: {lines[-1][:300] if lines else 'no message'}"
        )

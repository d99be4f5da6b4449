"""Compiling translated kernels into one shared library, in parallel, with the compiler of this machine."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from penstock.backends.cache import cache_folder
from penstock.backends.cores import jobs
from penstock.backends.cxx import INSTALL, find_compiler
from penstock.backends.simulator.translate import Translation
from penstock.passes.core.errors import MissingToolError, PenstockError

_DEVICE = Path(__file__).parent / "device"
_STANDARD = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fsigned-char", "-w")
_ARITHMETIC = ("-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing")
"""As a device computes: no fused operations that a kernel did not ask for, wrapping integers, reinterpreted memory."""
_KERNELS, _RUNTIME = ("-Og",), ("-O2",)
"""Kernels run once or twice: compiling them takes longer than running them."""

_UNIT_BYTES = 200_000
_LIMIT_BYTES = 2**30

Progress = Callable[[str, int, int], None]


def compiler() -> str:
    """The C++ compiler.

    Raises:
        MissingToolError: there is none.
    """
    found = find_compiler()
    if found is None:
        raise MissingToolError(f"simulating a device needs a C++ compiler, and there is none on the PATH; {INSTALL}")
    return found


def build(kernels: Sequence[Translation], language: str, output: Path, progress: Progress) -> None:
    """Write the shared library of some kernels of one language.

    Compiled parts are kept in the user's cache under the hash of everything that shapes them.

    Raises:
        MissingToolError: there is no C++ compiler.
        PenstockError: it refuses a kernel; a fault of penstock.
    """
    command = (compiler(), *_STANDARD, *_ARITHMETIC, f"-I{_DEVICE}")
    units = [((*command, *_RUNTIME), (_DEVICE / "launch.cc").read_text())]
    header = f'#include "{language}.h"\n'
    units += [((*command, *_KERNELS), header + unit) for unit in _units(kernels)]
    with tempfile.TemporaryDirectory(prefix="penstock-") as name, ThreadPoolExecutor(jobs()) as pool:
        objects = []
        for index, made in enumerate(pool.map(lambda unit: _object(*unit), units)):
            progress("compiling kernels", index + 1, len(units))
            held = Path(name) / f"{index}.o"
            held.write_bytes(made)
            objects.append(str(held))
        _run([compiler(), "-shared", "-pthread", "-o", str(output), *objects])


def _units(kernels: Iterable[Translation]) -> list[str]:
    """The kernels in texts of a good size to compile. Each unit has whole kernels."""
    units: list[str] = []
    for kernel in kernels:
        if not units or len(units[-1]) + len(kernel.text) > _UNIT_BYTES:
            units.append("")
        units[-1] += kernel.text
    return units


def _object(command: Sequence[str], text: str) -> bytes:
    """The object file of a text, from the cache if it was made before."""
    parts = "\n".join((*command, _version(command[0]), _headers(), text))
    kept = simulator_cache() / f"{hashlib.sha256(parts.encode()).hexdigest()}.o"
    try:
        found = kept.read_bytes()
        os.utime(kept)
        return found
    except OSError:
        pass
    with tempfile.TemporaryDirectory(prefix="penstock-") as name:
        source, made = Path(name) / "kernels.cc", Path(name) / "kernels.o"
        source.write_text(text)
        _run([*command, "-c", str(source), "-o", str(made)])
        content = made.read_bytes()
    _keep(kept, content)
    return content


def _keep(path: Path, content: bytes) -> None:
    """Put a file into the cache, for other processes as well; those unused for longest make room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
    total = 0
    for old in sorted(path.parent.glob("*.o"), key=_last_use, reverse=True):
        total += old.stat().st_size if old.exists() else 0
        if total > _LIMIT_BYTES:
            old.unlink(missing_ok=True)


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def simulator_cache() -> Path:
    """Where compiled kernels lie."""
    return cache_folder() / "simulator"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = next((line.strip() for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
        raise PenstockError(f"{Path(command[0]).name} does not take a kernel for the simulator: {reason}")


@functools.cache
def _version(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@functools.cache
def _headers() -> str:
    return "\n".join(path.read_text() for path in sorted(_DEVICE.iterdir()) if path.suffix in (".h", ".cc"))

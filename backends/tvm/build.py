"""Build a Program for a target: lower, schedule, generate code, and gather the files of an artifact.

For the machine at hand the result is a shared library that TVM's VM runs. For a phone it is the launching code as
objects (ELF for Android, Mach-O for iOS), to be linked with the NDK or Xcode, and the source of every kernel.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from penstock.backends.targets import Target
from penstock.backends.tvm.kernels import Catch, Kernel, extract
from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.pipeline import relax_pipeline
from penstock.backends.tvm.target import tvm_target
from penstock.passes.core.errors import MissingToolError, PenstockError, UsageError
from penstock.passes.core.program import Program

LIBRARY = "lib/model.so"


class BuildError(PenstockError):
    """TVM could not generate code for a Program that it should take; a fault of penstock."""


@dataclass(frozen=True)
class CompiledProgram:
    """What a build leaves.

    Attributes:
        files: relative path to content: the library or objects, and the kernel sources.
        kernels: every kernel, sorted by name.
        functions: for each graph, the names of the weights that its function takes after the graph's arguments.
    """

    files: dict[str, bytes]
    kernels: tuple[Kernel, ...]
    functions: dict[str, tuple[str, ...]]


def compile_program(program: Program, target: Target) -> CompiledProgram:
    """Generate code for all graphs of a legalised Program.

    Raises:
        UsageError: the Program's weights are fake.
        UnsupportedOperatorError: some operators have no lowering.
        MissingToolError: the target needs a compiler that is not there.
    """
    if program.is_fake:
        raise UsageError("the program was captured on fake tensors; capture it with real weights to compile it")
    built_for = tvm_target(target)
    with built_for:
        lowered = lower(program)
    catch = Catch(target)
    try:
        with tvm.transform.PassContext(opt_level=3, instruments=[catch]):
            executable = relax.build(lowered.module, built_for, relax_pipeline=relax_pipeline(built_for))
    except Exception as error:
        raise _explained(error, target) from error
    kernels = extract(catch.functions, target, built_for)
    files = {f"kernels/{kernel.file_name}": kernel.source.encode() for kernel in kernels}
    objects = _objects(executable)
    if target.runs_here:
        files[LIBRARY] = _link(objects)
    else:
        files.update({f"lib/{name}": content for name, content in objects.items()})
    return CompiledProgram(files, kernels, lowered.weights)


def _explained(error: Exception, target: Target) -> PenstockError:
    text = str(error)
    if target.kind == "cuda" and "nvcc" in text:
        return MissingToolError(f"target '{target.name}' needs NVIDIA's compiler nvcc on the PATH: {_last(text)}")
    return BuildError(f"TVM cannot build this program for '{target.name}': {_last(text)}")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def _objects(executable: Any) -> dict[str, bytes]:
    """The object files that TVM would link."""
    found: dict[str, bytes] = {}

    def take(output: str, files: Sequence[str], options: Any = None, **_: Any) -> None:
        for index, path in enumerate(files):
            found[f"model{index}.o"] = Path(path).read_bytes()
        Path(output).touch()

    take.object_format = "o"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        executable.export_library(str(Path(folder) / "model.o"), fcompile=take)
    return found


def _link(objects: dict[str, bytes]) -> bytes:
    """One shared library, without anything that depends on where or when it was linked."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise MissingToolError(
            "no C++ compiler (c++, g++ or clang++) on the PATH to link the library with; "
            "install one (Debian: apt install g++, macOS: xcode-select --install)"
        )
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        for name, content in objects.items():
            (Path(folder) / name).write_bytes(content)
        command = [compiler, "-shared", "-fPIC", "-s", "-Wl,--build-id=none", "-o", "model.so", *sorted(objects)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{Path(compiler).name} cannot link the library: {_last(done.stderr)}")
        return (Path(folder) / "model.so").read_bytes()

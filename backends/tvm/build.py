"""Build a Program for a target: lower, schedule, take apart, and generate code for every loop nest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import tvm

from penstock.backends.plan.launches import Body, Kernel
from penstock.backends.targets import Target
from penstock.backends.tvm.fusion import Launches, launches_within
from penstock.backends.tvm.kernels import BuildError, cpu_kernels, gpu_kernels
from penstock.backends.tvm.launches import KernelTable, launch_lists
from penstock.backends.tvm.link import link
from penstock.backends.tvm.packing import pack_weights
from penstock.backends.tvm.pipeline import fused, scheduled
from penstock.backends.tvm.target import tvm_target
from penstock.passes.core.errors import MissingToolError, PenstockError, UsageError
from penstock.passes.core.program import Program


@dataclass(frozen=True)
class CompiledProgram:
    """What a build leaves.

    Attributes:
        kernels: every distinct kernel.
        bodies: for each graph, its launches; they refer to `kernels` by index.
        constants: what kernels read besides the Program's weights, by name.
        library: the shared library of CPU kernels; None for a GPU.
    """

    kernels: tuple[Kernel, ...]
    bodies: dict[str, Body]
    constants: dict[str, torch.Tensor]
    library: bytes | None


def compile_program(program: Program, target: Target, room: int | None = None) -> CompiledProgram:
    """Generate code for all graphs of a legalised Program.

    Args:
        room: bytes of values, inputs and outputs included, that fusion keeps within if it can; None for no limit.

    Raises:
        UsageError: the Program's weights are fake.
        UnsupportedOperatorError: some operators have no lowering.
        MissingToolError: the target needs a compiler that is not there.
    """
    if program.is_fake:
        raise UsageError("the program was captured on fake tensors; capture it with real weights to compile it")
    return generate(launches_of(program, target, room), target)


def launches_of(program: Program, target: Target, room: int | None = None) -> Launches:
    """What `compile_program` generates code for: it says already how much memory the launches need.

    The Program's weights may be fake.
    """
    built_for = tvm_target(target)
    packed: dict[str, torch.Tensor] = {}
    if target.on_gpu:
        program = pack_weights(program)
        packed = dict(program.weights)
    with built_for, _explaining(target):
        found = launches_within(program, target, built_for, room)
    return replace(found, packed={**packed, **found.packed})


def generate(launches: Launches, target: Target) -> CompiledProgram:
    """The code of some launches."""
    built_for = tvm_target(target)
    with built_for, _explaining(target):
        compiled = _code(launches.table, launches.bodies, target, built_for)
    return replace(compiled, constants={**launches.packed, **compiled.constants})


def compile_module(
    module: tvm.IRModule, weights: Mapping[str, Sequence[str]], target: Target, built_for: tvm.target.Target
) -> CompiledProgram:
    """Generate code for a Relax module: one function per graph, and whatever TIR functions they call.

    Args:
        weights: for each graph, the weights that its function takes after the graph's arguments.
    """
    with built_for, _explaining(target):
        table, bodies = launch_lists(scheduled(fused(module, built_for).module, built_for), weights)
        return _code(table, bodies, target, built_for)


def _code(table: KernelTable, bodies: dict[str, Body], target: Target, built_for: tvm.target.Target) -> CompiledProgram:
    if target.on_gpu:
        return CompiledProgram(gpu_kernels(table.nests, target, built_for), bodies, table.constants, None)
    kernels, objects = cpu_kernels(table.nests, built_for)
    return CompiledProgram(kernels, bodies, table.constants, link(objects, target))


@contextmanager
def _explaining(target: Target) -> Iterator[None]:
    try:
        yield
    except PenstockError:
        raise
    except Exception as error:
        raise _explained(error, target) from error


def _explained(error: Exception, target: Target) -> PenstockError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else "no message"
    if target.kind == "cuda" and "nvcc" in str(error):
        return MissingToolError(f"target '{target.name}' needs NVIDIA's compiler nvcc on the PATH: {reason}")
    return BuildError(f"TVM cannot build this program for '{target.name}': {reason}")

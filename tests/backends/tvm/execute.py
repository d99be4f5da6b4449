"""Running a Program's kernels as they are, without an artifact around them."""

from __future__ import annotations

from pathlib import Path

from penstock.backends.runner import Runner
from penstock.backends.simulator import Simulation
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.backends.tvm.standalone import load_compiled, write_compiled
from penstock.passes.core.program import Program


def runner_of(program: Program, folder: Path, target: str = "llvm") -> Runner:
    """A Program, compiled as it is and loaded."""
    device = find_target(target)
    compiled = compile_program(program, device)
    return load_compiled(compiled, program.plan, program.signature, program.weights, device, folder)


def simulation_of(program: Program, folder: Path, target: str) -> Simulation:
    """A Program, compiled as it is for a GPU, and simulated."""
    device = find_target(target)
    compiled = compile_program(program, device)
    write_compiled(compiled, program.plan, program.signature, program.weights, device, folder)
    return Simulation(folder, device, program.signature.inputs, program.signature.outputs)

"""Running a Program's kernels as they are, without an artifact around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from penstock.backends.runner import Runner
from penstock.backends.simulator import Simulation
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.backends.tvm.standalone import load_compiled, write_compiled
from penstock.passes.core.program import Program


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


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

"""Many layers as one Program, so that they are lowered and built together; and the kernels that they became."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from penstock.backends.plan.launches import Launch
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.frontends.torch_export import capture_module
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.presets import LEGALIZE
from tests.backends.tvm.execute import runner_of

Case = tuple[nn.Module, tuple[Tensor, ...]]


class Together(nn.Module):
    """Each layer on inputs of its own."""

    def __init__(self, cases: Mapping[str, Case]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer for layer, _ in cases.values())
        self.counts = [len(args) for _, args in cases.values()]

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        results, at = [], 0
        for layer, count in zip(self.layers, self.counts, strict=True):
            results.append(layer(*args[at : at + count]))
            at += count
        return tuple(results)


@dataclass(frozen=True)
class Outcome:
    """What became of each case."""

    expected: dict[str, Tensor]
    found: dict[str, Tensor]

    def error(self, name: str) -> float:
        """The largest difference, relative to the largest number expected."""
        expected, found = self.expected[name].float(), self.found[name].float()
        return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def run(cases: Mapping[str, Case], folder: Path) -> Outcome:
    """Compile all cases for this machine's CPU, and run them twice: the same input gives the same bytes."""
    module = Together(cases).eval()
    args = tuple(arg.clone() for _, inputs in cases.values() for arg in inputs)  # an input given twice is one
    with torch.no_grad():
        expected = module(*args)
    program = Pipeline(LEGALIZE).run(capture_module(module, args))
    runner = runner_of(program, folder)
    found = runner.run(args)
    again = runner.run(args)
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(found, again, strict=True))
    return Outcome(dict(zip(cases, expected, strict=True)), dict(zip(cases, found, strict=True)))


def kernels_of(layer: nn.Module, *args: Tensor, target: str = "llvm") -> list[str]:
    """The scheduled loop nests that one layer becomes, in the order in which they run."""
    compiled = compile_program(legal(layer, *args), find_target(target))
    (body,) = compiled.bodies.values()
    return [compiled.kernels[op.kernel].source for op in body.ops if isinstance(op, Launch)]


def legal(layer: nn.Module, *args: Tensor) -> Program:
    """A layer as the back end takes it."""
    return Pipeline(LEGALIZE).run(capture_module(layer.eval(), args))

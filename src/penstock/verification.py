"""Checking an artifact's numbers: on this machine's own devices, or by simulating the GPU that it is for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from penstock.backends.cores import jobs
from penstock.backends.loaded import LoadedModel
from penstock.backends.simulator import Progress
from penstock.backends.simulator.host_plan import read_plan, threads
from penstock.passes.core.errors import UsageError
from penstock.passes.core.verify import Difference
from penstock.report import Report
from penstock.report.figures import format_flops

FLOPS_PER_SECOND = 3e7
THREADS_PER_SECOND = 4e5
SOURCE_BYTES_PER_SECOND = 1e5
"""Orders of magnitude of one core; `python -m benchmarks.simulator` prints what they are here."""


@dataclass(frozen=True)
class Verified:
    """What came of a verification.

    Attributes:
        differences: by output, how far the artifact is from what PyTorch eager gives for the compiled graph in its own
            precision.
        executed: what ran, and how.
        outputs: what it gave for the example inputs.
    """

    differences: tuple[Difference, ...]
    executed: str
    outputs: tuple[torch.Tensor, ...]

    @property
    def ok(self) -> bool:
        """Whether all differences count as rounding."""
        return all(difference.ok for difference in self.differences)


def verified(
    model: LoadedModel, tolerance: float | None, progress: Progress, limit_seconds: float = float("inf")
) -> Verified:
    """Run an artifact on its example inputs and compare.

    Args:
        tolerance: largest error, relative to the largest magnitude of an output; by default 1e-4 in float32 and 2e-2 in
            float16.
        limit_seconds: refuse a simulation that would take longer.

    Raises:
        UsageError: it would take longer, or cannot run here at all.
        MissingToolError: a simulation needs a C++ compiler, and there is none.
        VerificationError: a kernel does what its GPU does not define, or exceeds its limits.
    """
    examples = model.examples()
    inputs = [examples[spec.name] for spec in model.signature.inputs]
    if not model.needs_simulation:
        outputs, executed = model.run(inputs), f"run on {model.runner.device}"
    else:
        refuse_if_long(model, limit_seconds)
        simulation = model.simulate(progress)
        outputs, executed = simulation.run(inputs), str(simulation.executed)
    return Verified(tuple(model.differences(outputs, tolerance)), executed, outputs)


def estimated_seconds(model: LoadedModel) -> float:
    """How long a simulation takes here, compiling its kernels included; right within a factor of a few."""
    path = model.artifact.path
    plan = read_plan(path)
    source = sum(int((path / kernel["file"]).stat().st_size) for kernel in plan["kernels"])
    running = _flops(model) / FLOPS_PER_SECOND + threads(plan) / THREADS_PER_SECOND
    return float((running + source / SOURCE_BYTES_PER_SECOND) / jobs())


def refuse_if_long(model: LoadedModel, limit_seconds: float) -> None:
    """Raise `UsageError` if a simulation would take longer than the limit."""
    seconds = estimated_seconds(model)
    if seconds > limit_seconds:
        target = model.artifact.manifest.target.name
        raise UsageError(
            f"simulating {target} for this model ({format_flops(_flops(model))}) takes about {_duration(seconds)} "
            f"here; verify it at a smaller size (--resize), or allow it (--time-limit {int(seconds * 2)})"
        )


def _flops(model: LoadedModel) -> int:
    path = model.artifact.path / "report.json"
    return Report.from_json(path.read_bytes(), str(path)).program.totals.flops


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"

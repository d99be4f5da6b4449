"""A loaded artifact: call it like the model it was compiled from."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from penstock.backends.artifact import Artifact
from penstock.backends.cache import program_cache
from penstock.backends.runner import Runner
from penstock.backends.simulator import Progress, Simulation
from penstock.passes.core.calling import as_tensor, bind, nest
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Signature
from penstock.passes.core.verify import Difference, compare

_log = logging.getLogger(__name__)


class LoadedModel:
    """An artifact that is called like the model it was compiled from.

    The library is loaded at the first call, so that an artifact for another device can be looked at.

    Attributes:
        artifact: what it was loaded from.
        signature: names, shapes and dtypes of inputs and outputs.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.signature: Signature = artifact.manifest.signature.signature()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Args:
            args: what the captured model takes, with torch tensors or numpy arrays. The model's states may follow, in
                the order of ``signature.states``; without them each starts at the value it had at capture.
            kwargs: likewise.

        Returns:
            Torch tensors, nested as in the model's own result. For a model with states: that, and a dict of their new
            values by name.

        Raises:
            UsageError: an argument has another number, name, nest, shape or dtype than at capture; or the artifact is
                for another device.
        """
        initial = self.examples() if self.signature.states else {}
        return nest(self.signature, self.run(bind(self.signature, args, kwargs, initial)))

    def run(self, inputs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """The outputs for one tensor or array per input, both in the order of the signature."""
        return self.runner.run(self.checked(inputs))

    def checked(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        """The inputs as tensors of the shapes and dtypes of the signature."""
        if len(inputs) != len(self.signature.inputs):
            raise UsageError(f"expected {len(self.signature.inputs)} input(s), got {len(inputs)}")
        return [as_tensor(spec, value) for spec, value in zip(self.signature.inputs, inputs, strict=True)]

    def examples(self) -> dict[str, torch.Tensor]:
        """The inputs that the model was captured with, by name; for a state, its initial value."""
        return self.artifact.examples()

    def verify(self, tolerance: float | None = None) -> list[Difference]:
        """Run the example inputs and compare with what PyTorch eager gave for them, output by output.

        An artifact for a phone's GPU is simulated.
        """
        examples = self.examples()
        inputs = [examples[spec.name] for spec in self.signature.inputs]
        outputs = self.simulate().run(inputs) if self.needs_simulation else self.run(inputs)
        return self.differences(outputs, tolerance)

    def differences(self, outputs: Sequence[torch.Tensor], tolerance: float | None = None) -> list[Difference]:
        """How far outputs for the example inputs are from what PyTorch eager gave for them.

        Each error is relative to the largest magnitude that is expected of its output, however small that is.
        """
        expected = self.artifact.expected()
        return [
            compare(spec.name, expected[spec.name], output, tolerance, least_scale=0.0)
            for spec, output in zip(self.signature.outputs, outputs, strict=True)
        ]

    @property
    def needs_simulation(self) -> bool:
        """Whether it is for the GPU of another device, which is simulated here."""
        target = self.artifact.manifest.target
        return target.kind in ("metal", "opencl") and bool(target.host)

    def simulate(self, progress: Progress = lambda text, done, total: None) -> Simulation:
        """The artifact on this machine's CPU, its kernels executed as its GPU would execute them.

        Args:
            progress: told what is done now, how much of it, and of how much.

        Raises:
            UsageError: it is not for a GPU that can be simulated.
            MissingToolError: there is no C++ compiler.
            VerificationError: a kernel exceeds the device's limits.
        """
        artifact = self.artifact
        return Simulation(
            artifact.path, artifact.manifest.target, self.signature.inputs, self.signature.outputs, progress
        )

    @cached_property
    def runner(self) -> Runner:
        """The native runner, loaded when it is first needed.

        Raises:
            UsageError: the artifact is for another device, or its device is not here.
        """
        path, manifest = self.artifact.path, self.artifact.manifest
        target, host = manifest.target, manifest.host
        if target.kind not in ("llvm", "opencl") or (target.kind == "llvm" and target.host):
            raise UsageError(
                f"{path} is compiled for {target.name} ({target.description.rstrip('.')}) and does not run here; run "
                f"it on that device, or compile the model for the target 'llvm' or 'opencl' to run it here "
                f"(`penstock verify` simulates phone GPUs)"
            )
        if target.kind == "llvm":
            if (host.system, host.machine) != (platform.system(), platform.machine()):
                raise UsageError(
                    f"{path} is compiled for {host.system} on {host.machine}, this machine is {platform.system()} on "
                    f"{platform.machine()}; compile the model on this machine"
                )
            if host.processor != processor():
                _log.warning(
                    "%s is compiled for the CPU %s, this machine has %s; compile the model here if it stops with an "
                    "illegal instruction", path, host.processor, processor()
                )  # fmt: skip
        folder = program_cache()
        folder.mkdir(parents=True, exist_ok=True)
        return Runner(path, self.signature.inputs, self.signature.outputs, cache=folder)


def processor() -> str:
    """What the CPU of this machine calls itself, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "CPU part"):
                return value.strip()
    return platform.processor()

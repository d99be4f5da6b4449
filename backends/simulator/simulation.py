"""A compiled Program for a GPU, executed on this machine's CPU as the GPU would execute it."""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.backends.plan.encoding import PLAN
from penstock.backends.runner import Runner
from penstock.backends.simulator.compiler import Progress, build
from penstock.backends.simulator.host_plan import LIBRARY, for_the_cpu, launched, read_plan, sources, threads
from penstock.backends.simulator.translate import KernelSource, translate
from penstock.backends.targets import Target
from penstock.passes.core.errors import UsageError, VerificationError

if TYPE_CHECKING:
    import torch

    from penstock.passes.core.program import TensorSpec

_ORDERS = 2
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Executed:
    """What a simulation runs.

    Attributes:
        language: ``metal`` or ``opencl``.
        kernels: distinct kernels.
        launches: of one run.
        threads: of one run.
    """

    device: str
    language: str
    kernels: int
    launches: int
    threads: int

    def __str__(self) -> str:
        language = {"metal": "Metal", "opencl": "OpenCL"}[self.language]
        return (
            f"{self.kernels} {language} kernels, {self.launches} launches, {self.threads} threads, executed on this "
            f"CPU in the work-groups of {self.device}, in two orders"
        )


class Simulation:
    """A launch plan for a GPU, ready to run here.

    Kernels are translated and compiled when it is made. It needs no TVM and no device.

    Args:
        folder: holds the plan, the kernels' sources and the weights: an artifact whose files have been checked.
        target: the device whose limits are kept.
        inputs: what the plan takes.
        outputs: what it gives.
        progress: told what is done now, how much of it, and of how much.

    Raises:
        UsageError: the plan is not for a GPU that can be simulated.
        MissingToolError: there is no C++ compiler.
        VerificationError: a kernel exceeds the device's limits; the text names it.
    """

    def __init__(
        self,
        folder: Path,
        target: Target,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        progress: Progress = lambda text, done, total: None,
    ) -> None:
        plan = read_plan(folder)
        if plan["kind"] not in ("metal", "opencl"):
            raise UsageError(f"kernels of {plan['kind']} are not simulated; Metal and OpenCL are")
        kernels = sources(plan, folder)
        translated = [translate(kernel, target.limits.subgroup) for kernel in kernels]
        for kernel, translation in zip(kernels, translated, strict=True):
            _check_limits(kernel, max(kernel.local_bytes, translation.local_bytes), target)
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-")
        self._progress = progress
        path = Path(self._folder.name)
        build(translated, plan["kind"], path / LIBRARY, progress)
        digest = hashlib.sha256((path / LIBRARY).read_bytes()).hexdigest()
        (path / PLAN).write_bytes(for_the_cpu(plan, [kernel.symbol for kernel in translated], digest))
        weights = path / plan["weights"]["file"]
        weights.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(folder / plan["weights"]["file"], weights)
        self._runner = Runner(path, inputs, outputs)
        self._library = _Library(path / LIBRARY)
        self.executed = Executed(target.name, plan["kind"], len(kernels), sum(launched(plan)), threads(plan))

    def run(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs for inputs of the right shapes and dtypes, both in order.

        Raises:
            VerificationError: a kernel did what its device would not do or not define; the text names kernel, thread
                and memory.
        """
        done, stop = self._library.done, self._library.stop
        done.value, stop.value = 0, 0
        total = _ORDERS * self.executed.threads
        with ThreadPoolExecutor(1) as pool:  # the main thread shows progress and hears Ctrl-C
            running = pool.submit(self._runner.run, inputs)
            try:
                while wait([running], _POLL_SECONDS).not_done:
                    self._progress("simulating", done.value, total)
                return running.result()
            except UsageError as error:
                reason = str(error).replace("SimulatorError: ", "")
                raise VerificationError(f"on {self.executed.device}, {reason}") from error
            finally:
                stop.value = 1


class _Library:
    """The counters of a library that the runner has loaded as well.

    It is let go with the object: the runner loads libraries by the number of an open file, and the loader would take
    one that is still there for a later one of the same number.
    """

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self.done = ctypes.c_int64.in_dll(library, "penstock_threads_done")
        self.stop = ctypes.c_int32.in_dll(library, "penstock_stop")
        weakref.finalize(self, _ctypes.dlclose, library._handle)


def _check_limits(kernel: KernelSource, local_bytes: int, target: Target) -> None:
    limits = target.limits
    count = kernel.block[0] * kernel.block[1] * kernel.block[2]
    if count > limits.max_threads:
        raise VerificationError(
            f"kernel '{kernel.name}' has work-groups of {count} threads; {target.name} allows {limits.max_threads}"
        )
    if local_bytes > limits.local_memory_bytes:
        raise VerificationError(
            f"kernel '{kernel.name}' shares {local_bytes} bytes in a work-group; {target.name} has "
            f"{limits.local_memory_bytes}"
        )


def _link_or_copy(source: Path, destination: Path) -> None:
    """Two names of one file, or where a file system has no such thing, a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)

"""The native runner: `penstock/runtime.h` in Python."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.backends.native import native_library
from penstock.passes.core.errors import MissingToolError, UsageError

if TYPE_CHECKING:
    import torch

    from penstock.passes.core.program import TensorSpec


class _Options(ctypes.Structure):
    _fields_ = [
        ("threads", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("cache", ctypes.c_char_p),
        ("skip_hashes", ctypes.c_int32),
    ]


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena_bytes", "arenas", "weight_bytes", "lower_bound_bytes")]


class _Launch(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("graph", "kernel", "node")),
        ("runs", ctypes.c_uint64),
        ("seconds", ctypes.c_double),
    ]


@dataclass(frozen=True)
class LaunchTime:
    """How long one launch took.

    Attributes:
        graph: the graph it is part of.
        kernel: what ran; ``copy`` for a copy.
        node: the value it wrote.
        runs: how often it ran while profiling was on.
        seconds: the sum of its times.
    """

    graph: str
    kernel: str
    node: str
    runs: int
    seconds: float


@dataclass(frozen=True)
class MemoryUse:
    """What a loaded artifact holds on its device, in bytes.

    Attributes:
        arena_bytes: all arenas: activations, inputs, outputs and temporaries.
        arenas: their number.
        weight_bytes: weights.
        lower_bound_bytes: the largest set of values alive together; no plan needs less arena.
    """

    arena_bytes: int
    arenas: int
    weight_bytes: int
    lower_bound_bytes: int


class Runner:
    """A loaded artifact.

    Args:
        path: the artifact's folder, whose files have been checked.
        inputs: what it takes.
        outputs: what it gives.
        threads: CPU threads; by default the environment variable PENSTOCK_THREADS, else all cores of the process.
        device: which OpenCL device, GPUs first.
        cache: a folder for compiled OpenCL programs.

    Raises:
        UsageError: the artifact is damaged or for a device that is not here.
        MissingToolError: the native library is not built.
    """

    def __init__(
        self,
        path: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        threads: int | None = None,
        device: int = 0,
        cache: Path | None = None,
    ) -> None:
        self._library = _library()
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._pointers_in, self._pointers_out = (ctypes.c_void_p * max(1, len(x)) for x in (inputs, outputs))
        self._model = ctypes.c_void_p()
        count = threads or int(os.environ.get("PENSTOCK_THREADS", "0"))
        options = _Options(count, device, None if cache is None else os.fsencode(cache), 1)
        self._check(self._library.penstock_load(os.fsencode(path), ctypes.byref(options), ctypes.byref(self._model)))

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.penstock_free(self._model)

    @property
    def device(self) -> str:
        """What runs it, e.g. ``cpu (8 threads)``."""
        return str(self._library.penstock_device(self._model), "utf-8")

    @property
    def memory(self) -> MemoryUse:
        """What it holds on its device."""
        memory = _Memory()
        self._check(self._library.penstock_memory_use(self._model, ctypes.byref(memory)))
        return MemoryUse(memory.arena_bytes, memory.arenas, memory.weight_bytes, memory.lower_bound_bytes)

    def run(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs for inputs of the right shapes and dtypes, both in order."""
        import torch  # here, so that `penstock doctor` can ask for devices without waiting for it

        held = [tensor if tensor.is_cpu and tensor.is_contiguous() else tensor.cpu().contiguous() for tensor in inputs]
        results = [torch.empty(spec.shape, dtype=spec.dtype) for spec in self._outputs]
        read = self._pointers_in(*(tensor.data_ptr() for tensor in held))
        written = self._pointers_out(*(tensor.data_ptr() for tensor in results))
        self._check(self._library.penstock_run(self._model, read, written))
        return tuple(results)

    def profile(self, inputs: Sequence[torch.Tensor], repeat: int = 1) -> tuple[LaunchTime, ...]:
        """The time of every launch over some runs."""
        self._check(self._library.penstock_profile(self._model, 1))
        try:
            for _ in range(repeat):
                self.run(inputs)
        finally:
            self._library.penstock_profile(self._model, 0)
        times = []
        launch = _Launch()
        for index in range(self._library.penstock_launch_count(self._model)):
            self._check(self._library.penstock_launch_profile(self._model, index, ctypes.byref(launch)))
            graph, kernel, node = (str(text, "utf-8") for text in (launch.graph, launch.kernel, launch.node))
            times.append(LaunchTime(graph, kernel, node, launch.runs, launch.seconds))
        return tuple(times)

    def _check(self, code: int) -> None:
        if code != 0:
            raise UsageError(str(self._library.penstock_error(), "utf-8", "replace"))


def opencl_devices() -> list[str]:
    """The OpenCL devices of this machine, GPUs first."""
    return str(_library().penstock_opencl_devices(), "utf-8", "replace").splitlines()


@cache
def _library() -> Any:
    library = native_library()
    if library is None or not hasattr(library, "penstock_load"):
        raise MissingToolError("the native runner is not built; pip install penstock with a C++ compiler on the PATH")
    _find_opencl()
    for name in ("penstock_error", "penstock_device", "penstock_opencl_devices"):
        getattr(library, name).restype = ctypes.c_char_p
    library.penstock_launch_count.restype = ctypes.c_size_t
    library.penstock_launch_profile.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return library


def _find_opencl() -> None:
    """Where the system has no OpenCL, use the PoCL of PyPI's pocl-binary-distribution if it is installed."""
    if "PENSTOCK_OPENCL" in os.environ or any(Path("/etc/OpenCL/vendors").glob("*.icd")):
        return
    try:
        files = importlib.metadata.files("pocl-binary-distribution") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libpocl") and ".so" in file.name:
            os.environ["PENSTOCK_OPENCL"] = str(file.locate())

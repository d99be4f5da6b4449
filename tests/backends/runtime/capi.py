"""The C API of penstock/runtime.h as it is, for tests: codes and messages are not translated."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.backends import runner
from penstock.backends.native import native_library

OK, BAD_ARGUMENT, BAD_ARTIFACT, NO_DEVICE, NO_MEMORY, FAILED = range(6)


class Options(ctypes.Structure):
    """penstock_options."""

    _fields_ = [
        ("threads", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("cache", ctypes.c_char_p),
        ("skip_hashes", ctypes.c_int32),
    ]


class Tensor(ctypes.Structure):
    """penstock_tensor."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("bytes", ctypes.c_size_t),
    ]


class Memory(ctypes.Structure):
    """penstock_memory."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena_bytes", "arenas", "weight_bytes", "lower_bound_bytes")]


class Launch(ctypes.Structure):
    """penstock_launch."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("graph", "kernel", "node")),
        ("runs", ctypes.c_uint64),
        ("seconds", ctypes.c_double),
    ]


class RunnerError(Exception):
    """A call returned a code; the message is penstock_error's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Give the functions of the library their types."""
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    for name, result, parameters in (
        ("error", text, []),
        ("load", ctypes.c_int, [text, ctypes.POINTER(Options), ctypes.POINTER(pointer)]),
        ("free", None, [pointer]),
        ("device", text, [pointer]),
        ("input_count", size, [pointer]),
        ("output_count", size, [pointer]),
        ("input", ctypes.c_int, [pointer, size, ctypes.POINTER(Tensor)]),
        ("output", ctypes.c_int, [pointer, size, ctypes.POINTER(Tensor)]),
        ("run", ctypes.c_int, [pointer, pointer, pointer]),
        ("memory_use", ctypes.c_int, [pointer, ctypes.POINTER(Memory)]),
        ("profile", ctypes.c_int, [pointer, ctypes.c_int]),
        ("launch_count", size, [pointer]),
        ("launch_profile", ctypes.c_int, [pointer, size, ctypes.POINTER(Launch)]),
        ("opencl_devices", text, []),
    ):
        function = getattr(library, f"penstock_{name}")
        function.restype, function.argtypes = result, parameters
    return library


def library() -> ctypes.CDLL:
    """The installed library."""
    found = native_library()
    assert found is not None, "the native library is not built: pip install -e . --no-deps"
    # A handle of its own: the types of another handle's functions stay as they are.
    return declare(ctypes.CDLL(found._name))


def opencl_devices() -> list[str]:
    """The OpenCL devices of this machine, those of PyPI's PoCL among them."""
    return [] if native_library() is None else runner.opencl_devices()


KINDS = ["llvm", *(["opencl"] if opencl_devices() else [])]  # what runs on this machine


class Model:
    """A loaded artifact."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.library, self.handle = library(), ctypes.c_void_p()
        self.check(self.library.penstock_load(os.fsencode(path), ctypes.byref(Options(**options)), self.handle))

    def __del__(self) -> None:
        self.library.penstock_free(self.handle)

    def check(self, code: int) -> None:
        """Raise a failure if it is one."""
        if code != OK:
            raise RunnerError(code, self.library.penstock_error().decode())

    @property
    def device(self) -> str:
        """What runs it."""
        return str(self.library.penstock_device(self.handle), "utf-8")

    def tensors(self, direction: str) -> list[tuple[str, str, tuple[int, ...], int]]:
        """Name, dtype, shape and bytes of each ``input`` or ``output``."""
        found, tensor = [], Tensor()
        for index in range(getattr(self.library, f"penstock_{direction}_count")(self.handle)):
            self.check(getattr(self.library, f"penstock_{direction}")(self.handle, index, ctypes.byref(tensor)))
            shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
            found.append((tensor.name.decode(), tensor.dtype.decode(), shape, tensor.bytes))
        return found

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs."""
        held = [np.ascontiguousarray(array) for array in inputs]
        assert [array.nbytes for array in held] == [tensor[3] for tensor in self.tensors("input")]
        results = [np.empty(shape, dtype) for _, dtype, shape, _ in self.tensors("output")]
        self.check(self.library.penstock_run(self.handle, _pointers(held), _pointers(results)))
        return results

    def memory(self) -> tuple[int, int, int, int]:
        """Arena bytes, arenas, weight bytes, lower bound."""
        memory = Memory()
        self.check(self.library.penstock_memory_use(self.handle, ctypes.byref(memory)))
        return memory.arena_bytes, memory.arenas, memory.weight_bytes, memory.lower_bound_bytes

    def profile(self) -> list[tuple[str, str, str, int, float]]:
        """Graph, kernel, node, runs and seconds of every launch."""
        found, launch = [], Launch()
        for index in range(self.library.penstock_launch_count(self.handle)):
            self.check(self.library.penstock_launch_profile(self.handle, index, ctypes.byref(launch)))
            names = launch.graph.decode(), launch.kernel.decode(), launch.node.decode()
            found.append((*names, launch.runs, launch.seconds))
        return found


def _pointers(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))


def refusal(path: Path, code: int = BAD_ARTIFACT, **options: Any) -> str:
    """Why the runner refuses an artifact, which it must do with this code."""
    with pytest.raises(RunnerError) as caught:
        Model(path, **options)
    assert caught.value.code == code
    return str(caught.value)

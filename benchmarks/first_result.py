"""One process from its start to its first result: what ``runner_vs_vm`` times from outside.

``python benchmarks/first_result.py runner|vm FOLDER``, where FOLDER holds ``net.penstock``, the machine's ``vm.so`` and
its ``weights.safetensors``, whose tensors are named by their position. Neither loads PyTorch.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def run_runner(folder: Path, inputs: list[np.ndarray]) -> None:
    """Load the artifact through the C API and run it once."""
    from penstock.backends.native import native_library

    runtime = native_library()
    assert runtime is not None
    runtime.penstock_output_count.restype = ctypes.c_size_t
    runtime.penstock_error.restype = ctypes.c_char_p
    model = ctypes.c_void_p()
    if runtime.penstock_load(str(folder / "net.penstock").encode(), None, ctypes.byref(model)) != 0:
        raise SystemExit(runtime.penstock_error().decode())
    outputs = [
        np.empty(_output_bytes(runtime, model, i), np.uint8) for i in range(runtime.penstock_output_count(model))
    ]
    if runtime.penstock_run(model, _pointers(inputs), _pointers(outputs)) != 0:
        raise SystemExit(runtime.penstock_error().decode())


def run_vm(folder: Path, inputs: list[np.ndarray]) -> None:
    """Load TVM, the library and the weights, and run the virtual machine once."""
    import tvm
    from tvm import relax

    weights = load_file(folder / "weights.safetensors")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(folder / "vm.so")), tvm.cpu())
    ordered = [weights[str(index)] for index in range(len(weights))]
    machine["main"](*(tvm.runtime.tensor(array) for array in (*inputs, *ordered)))


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_char_p),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    ]


def _output_bytes(runtime: ctypes.CDLL, model: ctypes.c_void_p, index: int) -> int:
    tensor = _Tensor()
    runtime.penstock_output(model, ctypes.c_size_t(index), ctypes.byref(tensor))
    return int(tensor.bytes)


def _pointers(arrays: list[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def main() -> None:
    """Run one of the two."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    stored = load_file(folder / "inputs.safetensors")
    inputs = [stored[str(index)] for index in range(len(stored))]
    (run_runner if kind == "runner" else run_vm)(folder, inputs)


if __name__ == "__main__":
    main()

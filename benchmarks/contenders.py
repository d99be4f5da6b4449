"""The contenders, each a function that loads one runtime and returns what runs the model on its example inputs.

Each imports its own runtime only, inside the function. `prepare` writes what they load: ``inputs.npz``, ``model.pt2``,
``model.onnx``, ``model.penstock`` and the output of PyTorch eager, ``expected.npy``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

Run = Callable[[], np.ndarray]

CONTENDERS = {
    "penstock llvm": "benchmarks.contenders:penstock_llvm",
    "torch eager": "benchmarks.contenders:torch_eager",
    "torch.compile": "benchmarks.contenders:torch_compile",
    "onnxruntime": "benchmarks.contenders:onnxruntime",
}
"""By the names of the tables; ratios are against the first."""


def prepare(module: nn.Module, args: tuple[Tensor, ...], folder: Path) -> dict[str, float]:
    """Write what the contenders load; returns the figures of the model, and how long penstock compiled it.

    The exported model stands for PyTorch: it runs the same ATen operators as the module, without the Python of its
    layers, and it needs no model library in the process.
    """
    import torch

    import penstock
    from penstock.passes.analysis.cost import cost

    with torch.no_grad(), _quiet():
        np.save(folder / "expected.npy", module(*args).numpy())
        exported = torch.export.export(module, args)
        torch.export.save(exported, folder / "model.pt2")
        torch.onnx.export(exported, args, folder / "model.onnx", dynamo=True, verbose=False)
    np.savez(folder / "inputs.npz", *(tensor.numpy() for tensor in args))
    program = penstock.optimize(penstock.capture(module, args), target="llvm")
    began = time.perf_counter()
    penstock.compile(program, target="llvm", output=folder / "model.penstock", cache=False)
    compile_seconds = time.perf_counter() - began
    figures = penstock.memory(program)
    total = cost(program).total
    return {
        "operators": total.operators,
        "flops": total.flops,
        "moved_bytes": total.moved_bytes,
        "weight_bytes": figures.weight_bytes,
        "activation_bytes": figures.activation_bytes,
        "compile_seconds": compile_seconds,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the warnings of the exporters, which concern their own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def inputs_of(folder: Path) -> list[np.ndarray]:
    """The example inputs in order."""
    with np.load(folder / "inputs.npz") as stored:
        return [stored[name] for name in stored]


def penstock_llvm(folder: Path) -> Run:
    """The artifact, through the Python API."""
    import penstock

    model, inputs = penstock.load(folder / "model.penstock"), inputs_of(folder)
    return lambda: model(*inputs).numpy()


def torch_eager(folder: Path) -> Run:
    """The exported model, operator by operator."""
    return _torch(folder, compiled=False)


def torch_compile(folder: Path) -> Run:
    """The exported model through TorchInductor."""
    return _torch(folder, compiled=True)


def _torch(folder: Path, compiled: bool) -> Run:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model: Any = torch.export.load(folder / "model.pt2").module()
    model = torch.compile(model) if compiled else model
    inputs = [torch.from_numpy(array) for array in inputs_of(folder)]

    def run() -> np.ndarray:
        with torch.no_grad():
            output: np.ndarray = model(*inputs).numpy()
        return output

    return run


def onnxruntime(folder: Path) -> Run:
    """The ONNX file, with the optimisations that are on by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    feeds = {node.name: array for node, array in zip(session.get_inputs(), inputs_of(folder), strict=True)}
    return lambda: session.run(None, feeds)[0]

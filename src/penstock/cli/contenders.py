"""Whom `penstock bench` can measure against: the captured model, run by somebody else."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from penstock.frontends.models import load_model
from penstock.passes.core.errors import MissingToolError, UsageError
from penstock.passes.core.program import Program

Run = Callable[[], Any]


def make_contender(name: str, model: str, inputs: Sequence[torch.Tensor], threads: int) -> Run:
    """A function that runs the model once.

    Args:
        name: ``eager``, ``torch-compile`` or ``onnxruntime``.
        model: as on the command line.
        inputs: one tensor per input of the artifact.
        threads: for runtimes with their own thread pool.
    """
    program = load_model(model)
    inputs = _fit(program, model, inputs)
    if name == "onnxruntime":
        return _onnxruntime(Path(model) if model.endswith(".onnx") else program, inputs, threads)
    module = program.as_module()
    run = torch.compile(module) if name == "torch-compile" else module

    def call() -> Any:
        with torch.inference_mode():
            return run(*inputs)

    return call


def _fit(program: Program, model: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The artifact's inputs in the precision of the model, which its passes may have lowered."""
    expected = [spec.shape for spec in program.signature.inputs]
    found = [tuple(tensor.shape) for tensor in inputs]
    if expected != found:
        raise UsageError(f"{model} is not the model of this artifact: it takes {expected}, the artifact {found}")
    return [tensor.to(spec.dtype) for tensor, spec in zip(inputs, program.signature.inputs, strict=True)]


def _onnxruntime(model: Path | Program, inputs: Sequence[torch.Tensor], threads: int) -> Run:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingToolError("onnxruntime is not installed; pip install 'penstock[bench]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = model if isinstance(model, Path) else _export(model, inputs, Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {entry.name: tensor.numpy() for entry, tensor in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)


def _export(program: Program, inputs: Sequence[torch.Tensor], path: Path) -> Path:
    # The exporter prints its progress on stdout, which belongs to our result, and warns of packages it could use.
    level = logging.getLogger("torch").level
    logging.getLogger("torch").setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(program.as_module().eval(), tuple(inputs), path, dynamo=True, verbose=False)
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UsageError(
            f"torch cannot export the model to ONNX ({reason}); name an .onnx file as --model to bench onnxruntime"
        ) from error
    finally:
        logging.getLogger("torch").setLevel(level)
    return path

"""Capture: a PyTorch module, an `ExportedProgram` or a ``.pt2`` file becomes a Program of one graph.

Every front end ends here, so there is one capture path and one dialect. Capture is non-strict first (fast, takes most
models) and strict where that fails.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from penstock.frontends.decompositions import decomposition_table
from penstock.frontends.lift import program_from_exported
from penstock.passes.core.errors import CaptureError, PenstockError, UsageError
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import is_fake
from penstock.passes.core.structure import leaves_of

_log = logging.getLogger(__name__)


def capture_module(
    module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, name: str | None = None
) -> Program:
    """Capture a module called with example arguments.

    Args:
        module: captured in evaluation mode; its mode and that of each part are restored afterwards. Its parameters are
            shared, not copied.
        args: positional example arguments; nests of tensors, numbers, strings and None. Everything that is not a
            tensor becomes part of the graph. Fake tensors make a Program that can be analysed but not run.
        kwargs: keyword example arguments.
        name: what to call the model in the Program's provenance.

    Raises:
        CaptureError: neither capture mode takes the model; the message holds the reason and the model's line.
        UnsupportedOperatorError: an operator mutates or has no static meaning.
    """
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        exported = _export(module, tuple(args), dict(kwargs or {}))
    finally:
        for part, was in training.items():
            part.training = was
    examples = leaves_of((tuple(args), dict(kwargs or {})))
    return capture_exported(exported, name or type(module).__name__, examples)


def capture_exported(exported: ExportedProgram, name: str, examples: Sequence[torch.Tensor] | None = None) -> Program:
    """Bring an `ExportedProgram` of any dialect into penstock's, and carry it as a Program.

    Args:
        exported: with static shapes.
        name: what to call the model in the Program's provenance.
        examples: the tensors of the example inputs in order; those stored in `exported` when None.
    """
    if examples is None:
        if exported.example_inputs is None:
            raise UsageError(f"{name} holds no example inputs; save it with torch.export.save on a fresh export")
        examples = leaves_of(exported.example_inputs)
    with quiet(), torch.no_grad(), _mode_of(examples):
        functional = exported.run_decompositions(decomposition_table())
    return program_from_exported(functional, name, examples)


def capture_pt2(path: Path, args: Sequence[Any] | None = None) -> Program:
    """Capture the ``.pt2`` file that `torch.export.save` wrote.

    Args:
        args: example arguments to verify with, instead of those in the file.

    Raises:
        UsageError: the file is missing, truncated or not a ``.pt2``.
    """
    try:
        with quiet():
            exported = torch.export.load(path)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"cannot read {path} as a .pt2 file: {reason}; write it anew with torch.export.save"
        ) from error
    return capture_exported(exported, path.name, leaves_of(args) if args else None)


def _export(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    failures: list[tuple[str, Exception]] = []
    for strict in (False, True):
        try:
            with quiet(), torch.no_grad(), _mode_of(leaves_of((args, kwargs))), _traceable_data():
                exported = torch.export.export(module, args, kwargs, strict=strict)
                _refuse_valueless_constants(exported)
                return exported
        except PenstockError:
            raise
        except Exception as error:
            failures.append(("strict" if strict else "non-strict", error))
            _log.info("%s capture failed: %s", failures[-1][0], _reason(error))
    reasons = "\n".join(f"  {mode}: {_reason(error)}" for mode, error in failures)
    raise CaptureError(
        f"{type(module).__name__} cannot be captured with static shapes:\n{reasons}\n"
        f"  Control flow that depends on tensor values must leave the model or become torch.where; "
        f"`torch.export.draft_export(model, args)` shows every such place."
    ) from failures[0][1]


def _refuse_valueless_constants(exported: ExportedProgram) -> None:
    """Strict capture may keep a tensor that forward makes as a constant without data; its numbers would be wrong."""
    inputs_are_fake = any(is_fake(tensor) for tensor in exported.state_dict.values())
    for name, constant in exported.constants.items():
        if isinstance(constant, torch.Tensor) and is_fake(constant) and not inputs_are_fake:
            raise CaptureError(f"the constant '{name}' was made during tracing and has no data")


@contextlib.contextmanager
def _traceable_data() -> Iterator[None]:
    """Let `tensor.data` be traced as `tensor.detach()`: as it stands, tracing loses what is written through it."""
    torch.Tensor.data = property(  # type: ignore[assignment,method-assign]
        lambda self: self.detach(),
        torch._C.TensorBase.data.__set__,  # type: ignore[attr-defined]
    )
    try:
        yield
    finally:
        del torch.Tensor.data


def _mode_of(tensors: Sequence[torch.Tensor]) -> contextlib.AbstractContextManager[Any]:
    """The fake mode of the first fake tensor, so that constants made during capture join it."""
    for tensor in tensors:
        if is_fake(tensor):
            mode: contextlib.AbstractContextManager[Any] = tensor.fake_mode  # type: ignore[attr-defined]
            return mode
    return contextlib.nullcontext()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back torch's warnings and logs: what matters is raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.getLogger("torch").level
        logging.getLogger("torch").setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logging.getLogger("torch").setLevel(level)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    place = next((line for line in reversed(lines) if line.startswith("File ") and "/torch/" not in line), "")
    head = lines[0] if lines else ""
    return f"{type(error).__name__}: {head[:300]}" + (f" [{place}]" if place else "")

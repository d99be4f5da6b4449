"""The public Python API. The command line does nothing that is not here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.export import ExportedProgram

from penstock.backends.artifact import Artifact, check_destination, open_artifact
from penstock.backends.cache import Cache, cache_key
from penstock.backends.digest import file_digest
from penstock.backends.loaded import LoadedModel
from penstock.backends.targets import Target, find_target
from penstock.budget import check_budget
from penstock.compilation import Losses, host_of, write_compiled
from penstock.frontends.models import capture_model
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference as oracle
from penstock.passes.core.base import Pass
from penstock.passes.core.calling import bind, nest
from penstock.passes.core.context import Context, Declined
from penstock.passes.core.errors import PenstockError, UsageError
from penstock.passes.core.instruments import Instrument
from penstock.passes.core.options import parse_pass, read_pipeline_file
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.core.sizes import format_size, parse_size
from penstock.passes.core.verify import Difference
from penstock.passes.precision import HalfPrecision
from penstock.passes.presets import PRESETS
from penstock.passes.resizing import resize
from penstock.passes.slicing.feature_slicing import FeatureSlicing
from penstock.report import Report, build_report

__all__ = [
    "Artifact",
    "Difference",
    "LoadedModel",
    "PenstockError",
    "Program",
    "capture",
    "compile",
    "load",
    "memory",
    "optimize",
    "reference",
    "resize",
    "tune",
    "verify",
]

if TYPE_CHECKING:
    from penstock.backends.tvm.tuning.tuner import Outcome

Precision = Literal["float16", "float32"]
Progress = Callable[[str, int, int], None]
_log = logging.getLogger(__name__)


def capture(
    model: torch.nn.Module | ExportedProgram | str | Path,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Program:
    """Capture a model as a Program.

    Args:
        model: a module, an exported program, a ``.pt2`` or ``.onnx`` file, or a factory written as
            ``package.module:factory`` or ``path/file.py:factory``, which returns ``(module, args)``,
            ``(module, args, kwargs)`` or a module with the attribute ``example_inputs``.
        args: positional example arguments. Their shapes and everything in them that is no tensor become fixed. On fake
            tensors the Program can be analysed but not run.
        kwargs: keyword example arguments.

    Raises:
        UsageError: there is no such model, or its factory fails.
        CaptureError: the model has no functional, static graph.
        UnsupportedOperatorError: with every operator that is not supported.
    """
    return capture_model(model, args, kwargs)


def optimize(
    program: Program,
    target: str | None = None,
    memory_budget: str | int | None = None,
    pipeline: str | Path | Sequence[Pass | str] = "mobile",
    precision: Precision | None = None,
    instruments: Sequence[Instrument] = (),
    declined: list[Declined] | None = None,
) -> Program:
    """Run passes on a Program and hold the result against a memory budget.

    Args:
        target: the device to optimise for.
        memory_budget: for weights and activations together: a size like ``1.5GiB``, bytes, None for no limit, or
            ``min`` for as little as slicing reaches, which never fails and is logged. A Program that needs more is
            sliced (see `FeatureSlicing`) after all other passes.
        pipeline: a preset, the path of a TOML pipeline file, or passes (as objects, or as text like ``--pass`` takes).
        precision: ``float16`` halves all floating-point weights and activations after the other passes.
        instruments: what watches the passes.
        declined: is filled with what the passes left alone, and why.

    Raises:
        UsageError: an unknown target, pipeline or pass, a bad size, or a precision the target does not compute in.
        BudgetError: the budget is not met; with the largest tensors alive at the peak.
        VerificationError: an instrument found that an exact pass changed the outputs.
    """
    device = find_target(target) if target is not None else None
    budget = None if memory_budget in (None, "min") else parse_size(memory_budget)
    context = Context(
        target=device.name if device else None,
        memory_budget=budget,
        largest_allocation=device.limits.max_allocation_bytes if device else None,
    )
    passes = (*pipeline_passes(pipeline), *_precision(precision, device), *_slicing(memory_budget))
    try:
        result = Pipeline(passes, instruments).run(program, context)
    finally:
        for item in context.declined:
            _log.info("declined: %s", item)
        if declined is not None:
            declined += context.declined
    if budget is not None:
        check_budget(result, budget)
    elif memory_budget == "min":
        _log.info("the least that the passes reach is %s", format_size(memory(result).peak_bytes))
    return result


def reference(program: Program, *args: Any, **kwargs: Any) -> Any:
    """Run a Program in PyTorch eager, on its device: the oracle that everything is compared with.

    Args:
        args: what the captured model takes. The model's states may follow; without them each starts at the value it
            had at capture.
        kwargs: likewise.

    Returns:
        The model's own nest of tensors. For a model with states: that, and a dict of their new values by name.

    Raises:
        UsageError: an argument has another number, name, nest, shape or dtype than at capture; or the Program was
            captured on fake tensors.
    """
    initial = dict(zip([spec.name for spec in program.signature.inputs], program.examples, strict=True))
    inputs = bind(program.signature, args, kwargs, initial, program.device)
    return nest(program.signature, oracle.run(program, inputs))


def compile(
    program: Program,
    target: str,
    output: str | Path,
    *,
    precision: Precision | None = None,
    memory_budget: str | int | None = None,
    cache: bool | Cache = True,
    report: Report | None = None,
    losses: Losses | None = None,
    tuning: str | Path | None = None,
) -> Artifact:
    """Compile a Program and write the artifact.

    Args:
        target: the device to compile for; ``llvm`` is the CPU of this machine.
        output: the folder to write. An artifact that is there is replaced in one step; anything else is refused.
        precision: ``float16`` halves all floating-point weights and activations first.
        memory_budget: for weights and the arenas of the launch plan together, which `optimize` can only foresee.
        cache: take the artifact from the compile cache if it was made before, and keep it there. True is the user's
            cache.
        report: what to keep in the artifact; one on this Program alone by default.
        losses: what lossy passes cost, from `Verify.losses`, to keep in the artifact.
        tuning: a file of `tune`; kernels that were measured there take the fastest schedule.

    Raises:
        UsageError: an unknown target, fake weights, a tuning file that is none, or an output that is not an artifact
            or cannot be written.
        UnsupportedOperatorError: with every operator that has no lowering.
        MissingToolError: the target needs a compiler that is not there.
        BudgetError: the launch plan needs more than the budget, or a tensor is larger than the device allocates.
    """
    device, destination = find_target(target), Path(output)
    check_destination(destination)
    if program.is_fake:
        raise UsageError("the program was captured on fake tensors; capture it with real weights to compile it")
    final = Pipeline(_precision(precision, device)).run(program.to("cpu"))
    report = report or build_report(program, final, target=device.name)
    measured = _existing(Path(tuning)) if tuning is not None else None
    budget = None if memory_budget is None else parse_size(memory_budget)
    write = partial(
        write_compiled,
        program=final,
        target=device,
        report=report,
        losses=losses or {},
        tuning=measured,
        budget=budget,
    )
    if cache is False:
        write(destination)
    else:
        store = Cache() if cache is True else cache
        settings = {
            "target": json.dumps(asdict(device)),
            "host": host_of(device).model_dump_json(),
            "report": report.to_json(),
            "losses": repr(losses),
            "budget": repr(budget),
            "tuning": "" if measured is None else file_digest(measured),
        }
        store.fetch(cache_key(final, settings), destination, write)
    return open_artifact(destination)


def load(path: str | Path) -> LoadedModel:
    """Load an artifact, to be called like the model it was compiled from.

    Raises:
        UsageError: something in it is missing, damaged or not accounted for.
    """
    return LoadedModel(open_artifact(Path(path)))


def verify(artifact: LoadedModel | Artifact | str | Path) -> list[Difference]:
    """Run an artifact on its example inputs, and compare each output with what PyTorch eager gave at compilation.

    Raises:
        UsageError: the artifact is damaged, or compiled for another device.
    """
    if isinstance(artifact, (str, Path)):
        artifact = open_artifact(Path(artifact))
    loaded = LoadedModel(artifact) if isinstance(artifact, Artifact) else artifact
    return loaded.verify()


def tune(
    program: Program,
    target: str,
    database: str | Path,
    *,
    seconds: float,
    precision: Precision | None = None,
    rpc: str | None = None,
    key: str | None = None,
    progress: Progress = lambda text, done, total: None,
) -> Outcome:
    """Measure schedules of a Program's kernels, and keep the measurements for `compile`.

    A stopped search goes on where it was; kernels of other models that are alike are known already.

    Args:
        target: the device to measure on: this machine's CPU or OpenCL, or what `rpc` leads to.
        database: the file; it is made, or added to.
        seconds: to spend.
        precision: as `compile` takes it.
        rpc: ``HOST:PORT`` of TVM's RPC server on the device, or of a tracker.
        key: the device's key at the tracker.
        progress: is told what is being measured, the seconds spent, and of how many.

    Raises:
        UsageError: an unknown target, fake weights, a device that is not here, a file that holds something else.
        MissingToolError: the target needs a compiler that is not there.
    """
    from penstock.tuning import tune_program

    device = find_target(target)
    if program.is_fake:
        raise UsageError("the program was captured on fake tensors; capture it with real weights to measure it")
    final = Pipeline(_precision(precision, device)).run(program.to("cpu"))
    return tune_program(final, device, Path(database), seconds, rpc, key, progress)


def pipeline_passes(pipeline: str | Path | Sequence[Pass | str]) -> tuple[Pass, ...]:
    """The passes of a pipeline as `optimize` takes it."""
    if isinstance(pipeline, str) and pipeline in PRESETS:
        return tuple(PRESETS[pipeline])
    if isinstance(pipeline, (str, Path)):
        if not str(pipeline).endswith(".toml"):
            known = ", ".join(PRESETS)
            raise UsageError(
                f"unknown pipeline '{pipeline}'; the presets are {known}, and a pipeline file ends in .toml"
            )
        return read_pipeline_file(Path(pipeline))
    return tuple(parse_pass(item) if isinstance(item, str) else item for item in pipeline)


def _existing(path: Path) -> Path:
    """A file that must be there."""
    if not path.is_file():
        raise UsageError(f"there is no tuning file {path}; `penstock tune` writes one")
    return path


def _slicing(budget: str | int | None) -> tuple[Pass, ...]:
    if budget is None:
        return ()
    return (FeatureSlicing("min" if budget == "min" else ""),)


def _precision(precision: str | None, device: Target | None) -> tuple[Pass, ...]:
    if precision in (None, "float32"):
        return ()
    if precision != "float16":
        raise UsageError(f"unknown precision '{precision}'; expected float16 or float32")
    if device is not None and not device.limits.fp16:
        raise UsageError(f"target '{device.name}' does not compute in float16; leave the precision at float32")
    return (HalfPrecision(),)

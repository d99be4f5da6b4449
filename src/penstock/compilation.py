"""From a Program to the files of an artifact: ask the oracle, legalise, generate code, describe, write."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from penstock.backends.artifact import Description, write_artifact
from penstock.backends.artifact.manifest import (
    AppliedPass,
    HostRecord,
    KernelRecord,
    LossRecord,
    MemoryRecord,
    SignatureRecord,
)
from penstock.backends.artifact.tensors import WEIGHTS, check_tensors
from penstock.backends.cache import tool_versions
from penstock.backends.loaded import processor
from penstock.backends.plan.encoding import encode
from penstock.backends.plan.launches import Kernel as LaunchedKernel
from penstock.backends.plan.launches import Type
from penstock.backends.plan.layout import LaunchPlan, lay_out
from penstock.backends.plan.placement import TooLargeError
from penstock.backends.quality import faults, launch_counts
from penstock.backends.targets import Target
from penstock.passes.analysis.cost import cost
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.base import registered
from penstock.passes.core.context import Context
from penstock.passes.core.errors import BudgetError
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import dtype_name
from penstock.passes.core.sizes import format_size
from penstock.passes.core.verify import Difference
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION
from penstock.report import Kernel, Report

if TYPE_CHECKING:
    from penstock.backends.tvm.fusion import Launches

LIBRARY = "lib/model.so"
_NEARLY = 1.02  # without a budget, kernels may need so much more than the graph for being fewer
Losses = Mapping[str, Sequence[Difference]]


def write_compiled(
    destination: Path,
    program: Program,
    target: Target,
    report: Report,
    losses: Losses,
    tuning: Path | None = None,
    budget: int | None = None,
) -> None:
    """Compile a Program for a target and write the artifact.

    What the oracle gives for the Program before legalisation goes into the artifact as the numbers to reach.

    Args:
        tuning: a database of measurements that schedules take their numbers from.
        budget: bytes that weights and the arenas of the launch plan may take together; None for no limit.
    """
    from penstock.backends.tvm.build import generate, launches_of
    from penstock.backends.tvm.schedules.tunable import RulesOwn, deciding
    from penstock.backends.tvm.tuning.database import Database

    expected = reference.run(program, program.examples)
    legal = legalized(program, target)
    figures = memory(dataclasses.replace(program, in_place=True))  # as the runner works
    room = int(_NEARLY * figures.activation_bytes) if budget is None else budget - program.weight_bytes
    with deciding(Database(tuning) if tuning is not None else RulesOwn()):
        launches = launches_of(legal, target, room)
    placed = _lay_out(launches, legal, target, None if budget is None else room)
    if budget is not None:
        _check_arena(placed.placement.bytes, program.weight_bytes, budget)
    compiled = generate(launches, target)
    counts = launch_counts(compiled.bodies, cost(legal).runs)
    shown = tuple(_shown(kernel, counts.get(index, 0), target) for index, kernel in enumerate(compiled.kernels))
    description = Description(
        model=report.model,
        target=target,
        host=host_of(target),
        plan=legal.plan,
        signature=SignatureRecord.of(legal.signature),
        passes=_applied(legal),
        losses={
            name: tuple(
                LossRecord(output=item.name, max_error=item.max_error, mean_error=item.mean_error, scale=item.scale)
                for item in differences
            )
            for name, differences in losses.items()
        },
        memory=MemoryRecord(
            weight_bytes=figures.weight_bytes,
            activation_bytes=figures.activation_bytes,
            arena_bytes=placed.placement.bytes,
            lower_bound_bytes=placed.placement.lower_bound,
        ),
        kernels=tuple(
            KernelRecord(
                name=kernel.name,
                file=kernel.file,
                language=kernel.language,
                arguments=tuple(map(str, kernel.arguments)),
                grid=kernel.grid,
                block=kernel.block,
                local_memory_bytes=kernel.local_memory_bytes,
                launches=seen.launches,
                flops=kernel.work.flops,
                moved_bytes=kernel.work.moved_bytes,
                faults=faults(kernel, target) if target.on_gpu else (),
            )
            for kernel, seen in zip(compiled.kernels, shown, strict=True)
        ),
        functions={
            name: tuple(sorted({storage.weight for storage in body.storages if storage.weight}))
            for name, body in compiled.bodies.items()
        },
        library=None if compiled.library is None else LIBRARY,
        tools=tool_versions(),
    )
    report = dataclasses.replace(report, kernels=shown)
    check = check_tensors(
        {spec.name: tensor for spec, tensor in zip(legal.signature.inputs, legal.examples, strict=True)},
        {spec.name: tensor for spec, tensor in zip(legal.signature.outputs, expected, strict=True)},
    )
    library = () if compiled.library is None else ((LIBRARY, compiled.library),)
    files = {
        **{kernel.file: kernel.source.encode() for kernel in compiled.kernels},
        **dict(library),
        "report.json": report.to_json().encode(),
        "report.html": report.to_html().encode(),
    }
    weights = {**legal.weights, **compiled.constants}
    digests = [(name, hashlib.sha256(content).hexdigest()) for name, content in library]

    def plan(weights_digest: str, aliases: Mapping[str, str]) -> bytes:
        stored = {name: (aliases.get(name, name), _type_name(weights[name])) for name in placed.weights}
        hashed = WEIGHTS, weights_digest
        return encode(placed, compiled.kernels, target.kind, hashed, stored, next(iter(digests), None))

    write_artifact(destination, description, files, weights, check, plan)


def legalized(program: Program, target: Target) -> Program:
    """A Program in what the back end takes for a target."""
    passes = (*SINGLE_PRECISION, *LEGALIZE) if target.on_gpu else LEGALIZE
    return Pipeline(passes).run(program, Context(target=target.name))


def _shown(kernel: LaunchedKernel, launches: int, target: Target) -> Kernel:
    """A kernel for the report. Sums are in float32, so the peak of that precision bounds them."""
    work = kernel.work
    least = target.compute.least_seconds(work.flops, work.moved_bytes) if work.moved_bytes else None
    return Kernel(kernel.name, kernel.grid, kernel.block, launches, work.flops, work.moved_bytes, least)


def _lay_out(launches: Launches, program: Program, target: Target, enough: int | None) -> LaunchPlan:
    try:
        nests = tuple(launches.table.nests.values())
        return lay_out(nests, launches.bodies, program.plan, program.signature, target.limits, enough)
    except TooLargeError as error:
        raise BudgetError(
            f"{error} on {target.name}; compile for a smaller size, or split the tensor in the model"
        ) from error


def _check_arena(arena: int, weights: int, budget: int) -> None:
    """Kernels may need memory of their own, and parts that begin at odd places are copied: no plan of a graph knows."""
    if arena + weights > budget:
        raise BudgetError(
            f"the memory budget of {format_size(budget)} is not kept: the launch plan needs "
            f"{format_size(arena + weights)}, of which {format_size(weights)} are weights; "
            f"slice to {format_size(max(0, 2 * budget - arena - weights))}",
            excess=arena + weights - budget,
        )


def _type_name(tensor: torch.Tensor) -> str:
    return str(Type(dtype_name(tensor.dtype), tuple(tensor.shape)))


def host_of(target: Target) -> HostRecord:
    """The machine at hand, if code for the target depends on it."""
    if not target.runs_here:
        return HostRecord()
    from penstock.backends.tvm.target import native_cpu

    system, machine = platform.system(), platform.machine()
    return HostRecord(system=system, machine=machine, cpu=native_cpu(), processor=processor())


def _applied(program: Program) -> tuple[AppliedPass, ...]:
    """The passes of a Program's provenance, whose first line is the capture. What is unknown counts as lossy."""
    known = registered()
    return tuple(
        AppliedPass(setting=setting, exactness=known[name].exactness if name in known else "lossy")
        for setting in program.provenance[1:]
        for name in (setting.partition(":")[0],)
    )

"""From a Program to the files of an artifact: ask the oracle, legalise, generate code, describe, write."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.backends.artifact import Description, write_artifact
from penstock.backends.artifact.manifest import (
    AppliedPass,
    ArgumentRecord,
    HostRecord,
    KernelRecord,
    LossRecord,
    MemoryRecord,
    SignatureRecord,
)
from penstock.backends.artifact.tensors import check_tensors
from penstock.backends.cache import tool_versions
from penstock.backends.targets import Target
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.base import registered
from penstock.passes.core.context import Context
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.core.verify import Difference
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION
from penstock.report import Kernel, Report

Losses = Mapping[str, Sequence[Difference]]


def write_compiled(destination: Path, program: Program, target: Target, report: Report, losses: Losses) -> None:
    """Compile a Program for a target and write the artifact.

    What the oracle gives for the Program before legalisation goes into the artifact as the numbers to reach.
    """
    from penstock.backends.tvm.build import LIBRARY, compile_program

    expected = reference.run(program, program.examples)
    passes = (*SINGLE_PRECISION, *LEGALIZE) if target.on_gpu else LEGALIZE
    legal = Pipeline(passes).run(program, Context(target=target.name))
    compiled = compile_program(legal, target)
    figures = memory(program)
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
        memory=MemoryRecord(weight_bytes=figures.weight_bytes, activation_bytes=figures.activation_bytes),
        kernels=tuple(
            KernelRecord(
                name=kernel.name,
                file=f"kernels/{kernel.file_name}",
                language=kernel.language,
                arguments=tuple(ArgumentRecord(**dataclasses.asdict(argument)) for argument in kernel.arguments),
                grid=kernel.grid,
                block=kernel.block,
                local_memory_bytes=kernel.local_memory_bytes,
            )
            for kernel in compiled.kernels
        ),
        functions=compiled.functions,
        library=LIBRARY if target.runs_here else None,
        tools=tool_versions(),
    )
    shown = tuple(Kernel(kernel.name, kernel.grid, kernel.block) for kernel in compiled.kernels)
    report = dataclasses.replace(report, kernels=shown)
    check = check_tensors(
        {spec.name: tensor for spec, tensor in zip(legal.signature.inputs, legal.examples, strict=True)},
        {spec.name: tensor for spec, tensor in zip(legal.signature.outputs, expected, strict=True)},
    )
    files = {
        **compiled.files,
        "report.json": report.to_json().encode(),
        "report.html": report.to_html().encode(),
    }
    write_artifact(destination, description, files, legal.weights, check)


def host_of(target: Target) -> HostRecord:
    """The machine at hand, if code for the target depends on it."""
    if not target.runs_here:
        return HostRecord()
    from penstock.backends.tvm.target import native_cpu

    return HostRecord(system=platform.system(), machine=platform.machine(), cpu=native_cpu())


def _applied(program: Program) -> tuple[AppliedPass, ...]:
    """The passes of a Program's provenance, whose first line is the capture. What is unknown counts as lossy."""
    known = registered()
    return tuple(
        AppliedPass(setting=setting, exactness=known[name].exactness if name in known else "lossy")
        for setting in program.provenance[1:]
        for name in (setting.partition(":")[0],)
    )

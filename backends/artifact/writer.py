"""Writing an artifact: everything as bytes first, then one atomic step."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from penstock.backends.artifact.atomic import replace_folder
from penstock.backends.artifact.manifest import (
    FILE_NAME,
    SCHEMA_VERSION,
    ArgumentEntry,
    FileEntry,
    KernelEntry,
    LossEntry,
    Manifest,
    MemoryEntry,
    plan_entry,
    signature_entry,
    tool_versions,
)
from penstock.backends.artifact.reader import is_artifact
from penstock.backends.targets import Target
from penstock.backends.tvm.build import CompiledProgram
from penstock.passes.analysis.memory import memory
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program

WEIGHTS = "weights.safetensors"
CHECK = "check.safetensors"
INPUT, EXPECTED = "input:", "expected:"


def artifact_files(
    program: Program,
    compiled: CompiledProgram,
    target: Target,
    expected: Sequence[torch.Tensor],
    losses: Sequence[LossEntry] = (),
    extra_files: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """All files of an artifact.

    Args:
        program: the Program that was compiled.
        expected: what the oracle gave for the Program's example inputs, one tensor per output.
        losses: what the lossy passes cost.
        extra_files: reports and the like, by relative path.
    """
    stored, aliases = _weights(program)
    examples = {f"{INPUT}{spec.name}": value for spec, value in zip(program.signature.inputs, program.examples, strict=True)}
    results = {f"{EXPECTED}{spec.name}": value for spec, value in zip(program.signature.outputs, expected, strict=True)}
    files = {
        **compiled.files,
        WEIGHTS: _safetensors(stored),
        CHECK: _safetensors({**examples, **results}),
        **(extra_files or {}),
    }
    figures = memory(program)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        target=dataclasses.asdict(target),
        plan=plan_entry(program.plan),
        signature=signature_entry(program.signature),
        functions=compiled.functions,
        weight_aliases=aliases,
        passes=program.provenance,
        losses=tuple(losses),
        memory=MemoryEntry(weight_bytes=figures.weight_bytes, activation_bytes=figures.activation_bytes),
        kernels=tuple(
            KernelEntry(
                name=kernel.name,
                file=f"kernels/{kernel.file_name}",
                arguments=tuple(ArgumentEntry(**dataclasses.asdict(argument)) for argument in kernel.arguments),
                grid=kernel.grid,
                block=kernel.block,
                local_memory_bytes=kernel.local_memory_bytes,
            )
            for kernel in compiled.kernels
        ),
        tools=tool_versions(),
        files={name: _entry(content) for name, content in sorted(files.items())},
    )
    return {**files, FILE_NAME: manifest.to_json()}


def write_artifact(destination: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of an artifact at once; see `atomic`.

    Raises:
        UsageError: `destination` exists and is not an artifact, or cannot be written.
    """
    check_destination(destination)
    replace_folder(destination, files)


def check_destination(destination: Path) -> None:
    """Refuse to replace what is not an artifact; worth asking before long work."""
    if destination.exists() and not is_artifact(destination):
        raise UsageError(f"{destination} exists and is not a penstock artifact; name another output or remove it")


def _weights(program: Program) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Each distinct tensor once under its first name, and the names that are aliases of those."""
    first: dict[int, str] = {}
    stored: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in program.weights.items():
        if id(tensor) in first:
            aliases[name] = first[id(tensor)]
        else:
            first[id(tensor)] = name
            stored[name] = tensor
    return stored, aliases


def _safetensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    # A copy each: safetensors refuses tensors that share storage, as slices of one parameter do.
    return save({name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()})


def _entry(content: bytes) -> FileEntry:
    return FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())

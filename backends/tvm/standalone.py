"""Running kernels without an artifact around them: a launch plan, its weights and its code in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from penstock.backends.artifact.weights import store_weights
from penstock.backends.digest import file_digest
from penstock.backends.plan.encoding import encode
from penstock.backends.plan.launches import Type
from penstock.backends.plan.layout import lay_out
from penstock.backends.runner import Runner
from penstock.backends.targets import Target
from penstock.backends.tvm.build import CompiledProgram
from penstock.passes.core.program import Plan, Signature
from penstock.passes.core.shapes import dtype_name


def load_compiled(
    compiled: CompiledProgram,
    plan: Plan,
    signature: Signature,
    weights: Mapping[str, torch.Tensor],
    target: Target,
    folder: Path,
) -> Runner:
    """Write what was compiled into a folder, and load it.

    Args:
        weights: the Program's, by name.
        target: a device of this machine.
        folder: an empty one; it must stay as long as the runner.
    """
    write_compiled(compiled, plan, signature, weights, target, folder)
    return Runner(folder, signature.inputs, signature.outputs)


def write_compiled(
    compiled: CompiledProgram,
    plan: Plan,
    signature: Signature,
    weights: Mapping[str, torch.Tensor],
    target: Target,
    folder: Path,
) -> None:
    """Write what was compiled for a target into an empty folder: a launch plan, the kernels and the weights."""
    laid_out = lay_out(compiled.kernels, compiled.bodies, plan, signature, target.limits)
    for kernel in compiled.kernels:
        (folder / kernel.file).parent.mkdir(exist_ok=True)
        (folder / kernel.file).write_text(kernel.source)
    library = None
    if compiled.library is not None:
        (folder / "model.so").write_bytes(compiled.library)
        library = "model.so", hashlib.sha256(compiled.library).hexdigest()
    known = {**weights, **compiled.constants}
    tensors = {name: known[name] for name in laid_out.weights}
    aliases = store_weights(folder / "weights", tensors)
    stored = {
        name: (aliases.get(name, name), str(Type(dtype_name(tensor.dtype), tuple(tensor.shape))))
        for name, tensor in tensors.items()
    }
    digest = "weights", file_digest(folder / "weights")
    (folder / "plan.json").write_bytes(encode(laid_out, compiled.kernels, target.kind, digest, stored, library))

"""Running a Program's kernels without an artifact around them: a plan, its weights and its code in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from penstock.backends.artifact.weights import store_weights
from penstock.backends.digest import file_digest
from penstock.backends.plan.encoding import encode
from penstock.backends.plan.launches import Type
from penstock.backends.plan.layout import lay_out
from penstock.backends.runner import Runner
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import dtype_name


def runner_of(program: Program, folder: Path, target: str = "llvm") -> Runner:
    """A Program, compiled as it is and loaded."""
    device = find_target(target)
    compiled = compile_program(program, device)
    plan = lay_out(compiled.kernels, compiled.bodies, program.plan, program.signature, device.limits.alignment)
    for kernel in compiled.kernels:
        (folder / kernel.file).parent.mkdir(exist_ok=True)
        (folder / kernel.file).write_text(kernel.source)
    library = None
    if compiled.library is not None:
        (folder / "model.so").write_bytes(compiled.library)
        library = "model.so", hashlib.sha256(compiled.library).hexdigest()
    known = {**program.weights, **compiled.constants}
    tensors = {name: known[name] for name in plan.weights}
    aliases = store_weights(folder / "weights", tensors)
    stored = {
        name: (aliases.get(name, name), str(Type(dtype_name(tensor.dtype), tuple(tensor.shape))))
        for name, tensor in tensors.items()
    }
    weights = "weights", file_digest(folder / "weights")
    (folder / "plan.json").write_bytes(encode(plan, device.kind, weights, stored, library))
    return Runner(folder, program.signature.inputs, program.signature.outputs)

"""What no writer writes into a manifest: signs that it was edited, or made to do harm.

The schema has checked names and types before; here the parts are held against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from penstock.passes.core.program import Call

if TYPE_CHECKING:
    from penstock.backends.artifact.manifest import Manifest


def problems(manifest: Manifest) -> Iterator[str]:
    """Every contradiction, in words; none in what a writer wrote."""
    for name in manifest.files:
        if not _is_plain(name):
            yield f"the file name '{name}' leads out of the artifact"
    for name in (*(kernel.file for kernel in manifest.kernels), *filter(None, [manifest.library])):
        if name not in manifest.files:
            yield f"'{name}' is not among the files"
    signature = manifest.signature
    for spec in (*signature.inputs, *signature.outputs):
        if not isinstance(getattr(torch, spec.dtype, None), torch.dtype) or min(spec.shape, default=0) < 0:
            yield f"'{spec.name}' has the impossible type {spec.dtype} {list(spec.shape)}"
    count = len(signature.states)
    if count > min(len(signature.inputs), len(signature.outputs)):
        yield "there are more states than inputs or outputs"
    yield from _structure_problems(signature.arguments, len(signature.inputs) - count, "the arguments")
    yield from _structure_problems(signature.result, len(signature.outputs) - count, "the result")
    halves = signature.arguments.get("tuple", ())
    if len(halves) != 2 or "tuple" not in halves[0] or "dict" not in halves[1]:
        yield "the arguments are not a tuple and a dict"
    yield from _plan_problems(manifest)


def _structure_problems(structure: Any, count: int, what: str) -> Iterator[str]:
    try:
        leaves = sorted(_leaves(structure))
    except (ValueError, TypeError, AttributeError, RecursionError):
        yield f"{what} have no legal structure"
        return
    if leaves != list(range(count)):
        yield f"{what} hold the tensors {leaves}, expected {count}"


def _leaves(structure: Any) -> Iterator[int]:
    ((kind, content),) = structure.items()
    if kind == "tensor":
        yield int(content)
    elif kind == "dict":
        for item in content.values():
            yield from _leaves(item)
    elif kind in ("tuple", "list"):
        for item in content:
            yield from _leaves(item)
    elif kind != "constant":
        raise ValueError(kind)


def _plan_problems(manifest: Manifest) -> Iterator[str]:
    bound = {spec.name for spec in manifest.signature.inputs}
    for call, _ in manifest.plan.calls():
        if call.graph not in manifest.functions:
            yield f"the plan calls '{call.graph}', which is no function"
    for op in manifest.plan.ops():
        unbound = [name for name in op.args if name not in bound]
        if unbound:
            user = f"'{op.graph}'" if isinstance(op, Call) else "a loop"
            yield f"the plan passes '{unbound[0]}' to {user} before it is bound"
        bound.update(op.results)
    for spec in manifest.signature.outputs:
        if spec.name not in bound:
            yield f"the plan leaves the output '{spec.name}' unbound"


def _is_plain(name: str) -> bool:
    """Whether a name is a relative path that stays in its folder, written in the one normal way."""
    path = PurePosixPath(name)
    return (
        name == str(path)
        and not path.is_absolute()
        and ".." not in path.parts
        and name not in (".", "manifest.json")
        and not any(character in name for character in "\\\0")
    )

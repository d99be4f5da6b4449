"""Writing a launch plan as ``plan.json``: the format of docs/launch_plan.md, one line per kernel, value and op."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.backends.digest import sign
from penstock.backends.plan.launches import Copy, Kernel, Loop, Op, Value
from penstock.backends.plan.layout import LaunchPlan, PlacedBody, PlacedValue

PLAN = "plan.json"
VERSION = 1


def encode(
    plan: LaunchPlan,
    kernels: Sequence[Kernel],
    kind: str,
    weights: tuple[str, str],
    stored: Mapping[str, tuple[str, str]],
    library: tuple[str, str] | None,
) -> bytes:
    """The text of ``plan.json``.

    Args:
        plan: what to write.
        kernels: what its launches refer to.
        kind: ``llvm``, ``opencl``, ``metal`` or ``cuda``.
        weights: the name of the weights file, and its SHA-256.
        stored: for each weight of the plan, the name it is stored under and its type.
        library: name and SHA-256 of the library of CPU kernels; None for GPU kernels.
    """
    tensors = [{"name": name, "type": stored[name][1], "stored": stored[name][0]} for name in plan.weights]
    entries = [
        f'"format": "penstock-plan", "version": {VERSION}',
        f'"kind": {json.dumps(kind)}',
        f'"alignment": {plan.alignment}',
        f'"lower_bound": {plan.placement.lower_bound}',
        f'"arenas": {json.dumps(plan.placement.arenas)}',
        f'"weights": {{"file": {json.dumps(weights[0])}, "sha256": "{weights[1]}", "tensors": {_lines(tensors, 2)}}}',
        f'"library": {json.dumps(library and {"file": library[0], "sha256": library[1]})}',
        f'"kernels": {_lines((_kernel(kernel, library) for kernel in kernels), 2)}',
        f'"graphs": {{{",".join(_graph(name, body) for name, body in plan.bodies.items())}}}',
        f'"values": {_lines(map(_value, plan.values), 2)}',
        f'"inputs": {json.dumps(plan.inputs)}',
        f'"outputs": {json.dumps(plan.outputs)}',
        f'"phases": {_lines(map(_phase, plan.phases), 2)}',
    ]
    return sign("{\n " + ",\n ".join(entries))


def seal(kernel: Mapping[str, Any], code: str) -> str:
    """What binds a kernel's record to its code, whose SHA-256 is `code`."""
    extents = ("|".join(",".join(map(str, kernel[key])) for key in ("grid", "block")), kernel["local_bytes"])
    fields = (kernel["name"], code, kernel["entry"], *extents, ";".join(kernel["arguments"]))
    text = "|".join(map(str, (*fields, ",".join(map(str, kernel["writes"])))))
    return hashlib.sha256(text.encode()).hexdigest()


def _kernel(kernel: Kernel, library: tuple[str, str] | None) -> dict[str, Any]:
    source = None if library else hashlib.sha256(kernel.source.encode()).hexdigest()
    record: dict[str, Any] = {
        "name": kernel.name,
        "file": None if library else kernel.file,
        "sha256": source,
        "entry": kernel.entry,
        "grid": kernel.grid,
        "block": kernel.block,
        "local_bytes": kernel.local_memory_bytes,
        "arguments": [str(argument) for argument in kernel.arguments],
        "writes": kernel.writes,
    }
    return {**record, "seal": seal(record, library[1] if library else str(source))}


def _graph(name: str, placed: PlacedBody) -> str:
    body = placed.body
    parts = [
        f'"parameters": {json.dumps([str(parameter) for parameter in body.parameters])}',
        f'"values": {_lines(map(_value, placed.values), 4)}',
        f'"ops": {_lines((_op(op, body.values) for op in body.ops), 4)}',
    ]
    return f"\n  {json.dumps(name)}: {{\n   " + ",\n   ".join(parts) + "}"


def _value(value: PlacedValue) -> dict[str, Any]:
    at = [value.place.space, value.place.index, value.place.offset]
    return {"name": value.name, "type": str(value.type), "at": at}


def _op(op: Op, values: Sequence[Value]) -> dict[str, Any]:
    if isinstance(op, Loop):
        return {"loop": op.count, "ops": [_op(inner, values) for inner in op.ops]}
    if isinstance(op, Copy):
        return {"copy": [_arg(op.source, values), _arg(op.target, values)]}
    return {"launch": op.kernel, "args": [_arg(arg, values) for arg in op.args]}


def _arg(value: int, values: Sequence[Value]) -> Any:
    strides = values[value].strides
    return [value, *strides] if any(strides) else value


def _phase(phase: Any) -> dict[str, Any]:
    name, steps = phase
    return {"name": name, "steps": [[{"call": call.graph, "args": call.args} for call in step] for step in steps]}


def _lines(items: Iterable[Any], indent: int) -> str:
    """A list with one line per item."""
    between = ",\n" + " " * indent
    lines = between.join(json.dumps(item) for item in items)
    return f"[\n{' ' * indent}{lines}]" if lines else "[]"

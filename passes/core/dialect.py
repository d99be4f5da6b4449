"""What a legal Program is. Checked after every pass; a breach is the pass's fault and is reported as such.

Rules for a graph:
  * every operator is an `OpOverload` that mutates nothing (ATen, ``penstock::`` or a user's own), or ``getitem``;
  * it names no device but the CPU: where it runs is its Program's (`Program.to`);
  * shapes are static, and every node carries its fake value in ``meta["val"]``;
  * weights are ``get_attr`` nodes that resolve to a tensor of the recorded shape and dtype;
  * nodes stand in execution order under unique names, and the output is a flat tuple of nodes.
Rules for the plan: it calls graphs that exist, with as many arguments and results as they have, on values that are
bound; and it ends with all outputs of the signature bound, in shape and dtype.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.program import (
    Call,
    Kept,
    Op,
    Program,
    SliceLoop,
    Window,
    attribute,
    is_same,
    placeholders,
    result_nodes,
    weights_of,
)
from penstock.passes.core.shapes import FAKE_MODE, value_of
from penstock.passes.core.source import source_of

_CPU = torch.device("cpu")


def check(program: Program, made_by: str) -> None:
    """Raise `InvalidProgramError` with every breach, naming who made the Program."""
    breaches = [f"graph '{name}': {breach}" for name, graph in program.graphs.items() for breach in _graph(graph)]
    breaches = breaches or [*_weights(program), *_plan(program)]
    if breaches:
        shown = "\n  ".join(breaches[:12])
        more = f"\n  … {len(breaches) - 12} more" if len(breaches) > 12 else ""
        raise InvalidProgramError(f"{made_by} made an illegal program:\n  {shown}{more}")


def _graph(module: GraphModule) -> Iterator[str]:
    seen: set[Node] = set()
    names: set[str] = set()
    for node in module.graph.nodes:
        if node.name in names:
            yield f"two nodes are called '{node.name}'"
        names.add(node.name)
        for used in node.all_input_nodes:
            if used not in seen:
                yield f"'{node.name}' uses '{used.name}' before it is made"
        seen.add(node)
        yield from _node(module, node)


def _node(module: GraphModule, node: Node) -> Iterator[str]:
    if node.op == "output":
        results = node.args[0]
        if not isinstance(results, tuple) or not all(isinstance(item, Node) for item in results):
            yield "the output is not a flat tuple of nodes"
        return
    if "val" not in node.meta:
        yield f"'{node.name}' ({node.target}) carries no fake value in meta['val']"
        return
    value = value_of(node)
    for tensor in value if isinstance(value, (tuple, list)) else (value,):
        if isinstance(tensor, torch.Tensor):
            if not all(isinstance(extent, int) for extent in tensor.shape):
                yield f"'{node.name}' has the dynamic shape {tuple(tensor.shape)}; shapes are static"
            if getattr(tensor, "fake_mode", None) is not FAKE_MODE:
                yield f"'{node.name}' carries a value outside the shared fake mode (use shapes.fake_like)"
    if node.op == "get_attr":
        try:
            weight = attribute(module, str(node.target))
        except (AttributeError, TypeError) as error:
            yield f"weight '{node.target}' does not resolve: {error}"
            return
        if weight.shape != value.shape or weight.dtype != value.dtype:
            yield f"weight '{node.target}' is {tuple(weight.shape)} {weight.dtype}, recorded as {tuple(value.shape)}"
    elif node.op == "call_function":
        if isinstance(node.target, OpOverload):
            if node.target._schema.is_mutable:
                yield f"'{node.name}' mutates: {node.target} ({source_of(node)})"
            if node.kwargs.get("device") not in (None, _CPU):
                yield f"'{node.name}' names the device {node.kwargs['device']}; a graph runs where its weights lie"
        elif node.target is not operator.getitem:
            yield f"'{node.name}' calls {node.target!r}, which is not an operator overload"
    elif node.op != "placeholder":
        yield f"'{node.name}' is a {node.op} node; only call_function, get_attr, placeholder and output are legal"


def _weights(program: Program) -> Iterator[str]:
    known: dict[str, tuple[str, torch.Tensor]] = {}
    for name, module in program.graphs.items():
        for weight, tensor in weights_of(module).items():
            first, held = known.setdefault(weight, (name, tensor))
            if not is_same(held, tensor):
                yield f"graph '{name}': its weight '{weight}' is another tensor than that of graph '{first}'"


def _plan(program: Program) -> Iterator[str]:
    bound = {spec.name: (spec.shape, spec.dtype) for spec in program.signature.inputs}
    try:
        _ops(program, tuple(program.plan.ops()), bound)
    except _BreachError as breach:
        yield str(breach)
        return
    for spec in program.signature.outputs:
        if bound.get(spec.name) != (spec.shape, spec.dtype):
            yield f"output '{spec.name}' is {bound.get(spec.name, 'not bound')}, expected {spec.shape} {spec.dtype}"


_Bound = dict[str, tuple[tuple[int, ...], torch.dtype]]


class _BreachError(Exception):
    pass


def _ops(program: Program, ops: Sequence[Op], bound: _Bound) -> None:
    """Check ops on named values, and bind what they make."""
    for op in ops:
        if isinstance(op, Call) and op.graph not in program.graphs:
            raise _BreachError(f"the plan calls '{op.graph}', which is no graph of the program")
        for name in op.args:
            if name not in bound:
                user = f"'{op.graph}'" if isinstance(op, Call) else "a loop"
                raise _BreachError(f"the plan passes '{name}' to {user} before it is bound")
        if isinstance(op, Call):
            _call(program, op, bound)
        else:
            _loop(program, op, bound)


def _call(program: Program, op: Call, bound: _Bound) -> None:
    graph = program.graphs[op.graph]
    parameters, results = placeholders(graph), result_nodes(graph)
    if len(parameters) != len(op.args) or len(results) != len(op.results):
        raise _BreachError(
            f"the plan calls '{op.graph}' with {len(op.args)} argument(s) and {len(op.results)} result(s); "
            f"it has {len(parameters)} and {len(results)}"
        )
    for parameter, name in zip(parameters, op.args, strict=True):
        value = value_of(parameter)
        if bound[name] != (tuple(value.shape), value.dtype):
            raise _BreachError(
                f"'{op.graph}' takes {tuple(value.shape)} {value.dtype} for '{name}', which is {bound[name]}"
            )
    for result, name in zip(results, op.results, strict=True):
        value = value_of(result)
        bound[name] = (tuple(value.shape), value.dtype)


def _loop(program: Program, loop: SliceLoop, bound: _Bound) -> None:
    kept: _Bound = {}
    memory = {each.name: each.spec for each in loop.kept}
    for piece in loop.pieces:
        local: _Bound = {}
        for param, (name, window) in zip(piece.params, piece.args, strict=True):
            shape, dtype = bound[name]
            local[param] = (shape, dtype) if window is None else (_seen(name, shape, window, piece.count), dtype)
        for each in piece.takes:
            if each.memory not in kept or kept[each.memory][0] != each.shape:
                raise _BreachError(
                    f"a loop takes {each.shape} of '{each.memory}', which is {kept.get(each.memory, 'not kept')}"
                )
            local[each.value] = kept[each.memory]
        _ops(program, piece.ops, local)
        kept = {}
        for each in piece.keeps:
            spec, found = memory.get(each.memory), local.get(each.value)
            if spec is None or found != (each.shape, spec.dtype) or math.prod(each.shape) > math.prod(spec.shape):
                raise _BreachError(f"a loop keeps {found} as {each.shape} in '{each.memory}', {spec}")
            kept[each.memory] = (each.shape, spec.dtype)
        if piece.count > 1 and _shapes(piece.takes) != _shapes(piece.keeps):
            raise _BreachError("an iteration of a loop keeps something else than the next one takes")
        for spec, made, window in zip(loop.specs, piece.returns, piece.tiles, strict=True):
            if made is None or window is None:
                continue
            expected = (_seen(spec.name, spec.shape, window, piece.count), spec.dtype)
            if local.get(made) != expected:
                raise _BreachError(
                    f"a loop writes {local.get(made, 'nothing')} into '{spec.name}', expected {expected}"
                )
            if piece.count > 1 and window.step != window.extent:
                raise _BreachError(f"the tiles of '{spec.name}' overlap or leave a gap")
    for index, (spec, reused) in enumerate(zip(loop.specs, loop.reuses, strict=True)):
        at = size = 0
        for piece in loop.pieces:
            window = piece.tiles[index]
            if window is None:
                continue
            if window.start != at:
                raise _BreachError(f"the tiles of '{spec.name}' overlap or leave a gap at position {at}")
            at, size = at + piece.count * window.extent, window.size
        if at != size or not size:
            raise _BreachError(f"the tiles of '{spec.name}' end at position {at} of {size}")
        if reused is not None and math.prod(bound[reused][0]) * bound[reused][1].itemsize != spec.nbytes:
            raise _BreachError(f"'{spec.name}' cannot take over the memory of '{reused}'")
        bound[spec.name] = (spec.shape, spec.dtype)


def _shapes(kept: Sequence[Kept]) -> set[tuple[str, tuple[int, ...]]]:
    return {(each.memory, each.shape) for each in kept}


def _seen(name: str, shape: tuple[int, ...], window: Window, count: int) -> tuple[int, ...]:
    """The shape of a part, once the window fits the value."""
    fits = 0 <= window.dim < len(shape) and window.outer * window.size * window.inner == shape[window.dim]
    last = window.start + (count - 1) * window.step + window.extent
    if not fits or window.start < 0 or last > window.size or window.extent < 1:
        raise _BreachError(f"{window} does not fit '{name}' of shape {shape} in {count} iteration(s)")
    return window.shape(shape)

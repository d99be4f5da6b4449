"""Where memory goes: the bytes of activations alive at every operator, by liveness.

What counts: a buffer lives from the operator that makes it to the last use of any view into it; an input is freed after
its last use; outputs live to the end; weights are counted apart. A value that the plan carries from one call to a later
one lives through every call between. Where the Program runs in place, a result may take over the memory of an operand
(`penstock.passes.core.overwriting`). No allocator slack and no kernel workspace is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch.fx import GraphModule, Node

from penstock.passes.core.aliases import Buffer, buffers_of
from penstock.passes.core.ops import ATTENTION
from penstock.passes.core.overwriting import takeovers
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import (
    Call,
    Op,
    Piece,
    Program,
    TensorSpec,
    placeholders,
    result_nodes,
    weight_results,
)
from penstock.passes.core.shapes import dtype_name, nbytes, tensor_of, value_of
from penstock.passes.core.source import module_of, source_of

Attention = Literal["fused", "materialized"]


@dataclass(frozen=True)
class LiveTensor:
    """One buffer that is alive at a point of the timeline.

    Attributes:
        name: the node that made it, with ``[i]`` for one of several results; for a carried value its name in the plan.
        node: the node that made it; empty for a carried value.
        op: the operator that made it, ``input``, or ``carried`` for a value of the plan that waits for a later call.
        made_at: index of the first point at which it is alive.
        last_used_at: index of the last point at which it is alive.
    """

    name: str
    node: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    module: str
    source: str
    made_at: int
    last_used_at: int


@dataclass(frozen=True)
class Point:
    """One operator as it runs.

    Attributes:
        live_bytes: what is alive while it runs: its arguments, its results and everything needed later.
        scratch_bytes: the part of `live_bytes` that only this operator needs (materialised attention scores).
    """

    index: int
    graph: str
    node: str
    op: str
    module: str
    source: str
    live_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class MemoryFigures:
    """What a Program needs of a device's memory.

    Attributes:
        weight_bytes: all distinct weights.
        timeline: one point per operator in execution order. Calls of one graph with the same values alive around them
            stand here once.
    """

    weight_bytes: int
    timeline: tuple[Point, ...]
    _tensors: tuple[LiveTensor, ...]

    @cached_property
    def peak(self) -> Point | None:
        """The first point at which most is alive; None for a Program without operators."""
        return max(self.timeline, key=lambda point: point.live_bytes, default=None)

    @property
    def activation_bytes(self) -> int:
        """Activations alive at the peak."""
        return sum(tensor.bytes for tensor in self._tensors) if self.peak is None else self.peak.live_bytes

    @cached_property
    def largest_bytes(self) -> int:
        """Of the largest single value, which is one allocation at least."""
        return max((tensor.bytes for tensor in self._tensors), default=0)

    @property
    def peak_bytes(self) -> int:
        """Weights and activations together: what the device must hold at once."""
        return self.weight_bytes + self.activation_bytes

    def live_at(self, index: int) -> tuple[LiveTensor, ...]:
        """The buffers alive at a point of the timeline, largest first; scratch is not among them."""
        alive = (tensor for tensor in self._tensors if tensor.made_at <= index <= tensor.last_used_at)
        return tuple(sorted(alive, key=lambda tensor: (-tensor.bytes, tensor.made_at)))


def memory(program: Program, attention: Attention = "fused") -> MemoryFigures:
    """The memory timeline of a Program. Time is linear in nodes; what is alive at a point is found when asked for.

    Args:
        program: may be captured on fake tensors.
        attention: ``fused`` counts attention as a kernel that never stores its scores; ``materialized`` adds two
            buffers of batch × heads × queries × keys (scores and probabilities) while it runs.
    """
    points: list[Point] = []
    tensors: list[LiveTensor] = []
    for call in _distinct_calls(program):
        module = program.graphs[call.graph]
        alive = list(_alive_during(module, call, program.in_place, start=len(points)))
        points += _timeline(module, call.graph, alive, attention, start=len(points))
        tensors += alive
    return MemoryFigures(program.weight_bytes, tuple(points), tuple(tensors))


Held = Literal["dies", "given", "kept", "free"]
"""Of an argument: no op needs it later; likewise, but it is the caller's, who may; one does; it is counted already."""


@dataclass(frozen=True)
class _Call:
    """One call of a graph, as far as memory depends on it.

    Attributes:
        held: what becomes of each argument.
        around: the values that are neither argument nor result, but are alive.
        placed: the results, by their places, that lie in memory that is counted around.
    """

    graph: str
    held: tuple[Held, ...]
    around: tuple[TensorSpec, ...]
    placed: frozenset[int] = frozenset()


def _distinct_calls(program: Program) -> tuple[_Call, ...]:
    """The calls of the plan in order, each of those that are alike once."""
    calls: dict[_Call, None] = {}
    needed = {spec.name for spec in program.signature.outputs}
    alive = {spec.name: spec for spec in program.signature.inputs}
    for call in _calls(program, tuple(program.plan.ops()), alive, needed, (), frozenset(), frozenset(alive)):
        calls[call] = None
    return tuple(calls)


def _calls(
    program: Program,
    ops: Sequence[Op],
    alive: dict[str, TensorSpec],
    needed: set[str],
    around: tuple[TensorSpec, ...],
    free: frozenset[str],
    given: frozenset[str] = frozenset(),
    elsewhere: frozenset[str] = frozenset(),
) -> Iterator[_Call]:
    """The calls of some ops.

    Args:
        alive: the values at hand.
        needed: those that are needed after the ops.
        around: what is alive outside of the ops.
        free: the values at hand that lie within what `around` counts.
        given: the values at hand that are the caller's.
        elsewhere: results that are made in memory that `around` counts.
    """
    needed_after: list[set[str]] = []
    for op in reversed(ops):
        needed_after.append(needed)
        needed = (needed - set(op.results)) | set(op.args)
    for op, later in zip(ops, reversed(needed_after), strict=True):
        old = later - set(op.results)
        if isinstance(op, Call):
            waiting = tuple(
                spec for name, spec in alive.items() if name in old and name not in op.args and name not in free
            )
            twice = {name for name in op.args if op.args.count(name) > 1}
            held = tuple(_held(name, old, free, given | twice) for name in op.args)
            placed = frozenset(place for place, name in enumerate(op.results) if name in elsewhere)
            yield _Call(op.graph, held, (*around, *waiting), placed)
            nodes = result_nodes(program.graphs[op.graph])
            made = [_spec(name, node) for name, node in zip(op.results, nodes, strict=True)]
            free |= {name for name in weight_results(program, op) if name in later}
            free |= elsewhere.intersection(op.results)
        else:
            made = list(op.specs)
            reused = {name for name in op.reuses if name is not None}
            waiting = tuple(
                spec
                for name, spec in alive.items()
                if (name in old or name in op.args) and name not in free and name not in reused
            )
            kept = [each.spec for each in op.kept]
            for piece in op.pieces:
                yield from _piece_calls(program, piece, alive, (*around, *waiting, *made, *kept))
        given -= set(op.results)
        alive = {name: spec for name, spec in alive.items() if name in old}
        alive |= {spec.name: spec for spec in made if spec.name in later}


def _piece_calls(
    program: Program, piece: Piece, alive: Mapping[str, TensorSpec], around: tuple[TensorSpec, ...]
) -> Iterator[_Call]:
    """The calls of one iteration. A window is counted where its parts have to be gathered."""
    local: dict[str, TensorSpec] = {}
    free = set()
    for param, (name, window) in zip(piece.params, piece.args, strict=True):
        spec = alive[name]
        shape = spec.shape if window is None else window.shape(spec.shape)
        local[param] = TensorSpec(param, shape, spec.dtype)
        if window is None or window.is_contiguous(spec.shape):
            free.add(param)
    for each in piece.takes:
        dtype = next(spec.dtype for spec in around if spec.name == each.memory)
        local[each.value] = TensorSpec(each.value, each.shape, dtype)
        free.add(each.value)
    elsewhere = frozenset(each.value for each in piece.keeps if piece.lies_in_place(each))
    yield from _calls(program, piece.ops, local, set(piece.made), around, frozenset(free), elsewhere=elsewhere)


def _held(name: str, needed: set[str], free: frozenset[str], given: frozenset[str]) -> Held:
    return "free" if name in free else "kept" if name in needed else "given" if name in given else "dies"


def _spec(name: str, node: Node) -> TensorSpec:
    value = value_of(node)
    return TensorSpec(name, tuple(value.shape), value.dtype)


def _alive_during(module: GraphModule, call: _Call, in_place: bool, start: int) -> Iterator[LiveTensor]:
    """Every buffer of one call, with the points between which it is alive; `start` is the call's first point.

    A buffer that another takes over is alive up to the point before.
    """
    nodes = _operators(module)
    end = start + max(len(nodes) - 1, 0)
    for spec in call.around:
        dtype = dtype_name(spec.dtype)
        yield LiveTensor(spec.name, "", "carried", spec.shape, dtype, spec.nbytes, "", "", start, end)

    buffers = buffers_of(module.graph)
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    free: set[Buffer] = set()
    kept: set[Buffer] = set()
    for parameter, held in zip(placeholders(module), call.held, strict=True):
        for buffer in buffers[parameter]:
            first[buffer], last[buffer] = start, end if held == "kept" else start
            if held == "free":
                free.add(buffer)
            if held != "dies":
                kept.add(buffer)
    for index, node in enumerate(nodes, start):
        for buffer in buffers[node]:
            first.setdefault(buffer, index)
        for used in (node, *node.all_input_nodes):
            for buffer in buffers[used]:
                last[buffer] = max(last.get(buffer, index), index)
    for place, result in enumerate(result_nodes(module)):
        for buffer in buffers[result]:
            last[buffer] = end
            kept.add(buffer)
            if place in call.placed:
                free.add(buffer)
    if in_place:
        for operand in takeovers(nodes, last, kept, start).values():
            last[buffers[operand][0]] -= 1
    for buffer, made_at in first.items():
        if buffer not in free:
            yield _describe(buffer, made_at, last[buffer])


def _describe(buffer: Buffer, made_at: int, last_used_at: int) -> LiveTensor:
    node = buffer.node
    value = value_of(node)
    several = not isinstance(value, torch.Tensor)
    tensor = value[buffer.index] if several else value
    return LiveTensor(
        name=f"{node.name}[{buffer.index}]" if several else node.name,
        node=node.name,
        op="input" if node.op == "placeholder" else op_name(node),
        shape=tuple(tensor.shape),
        dtype=dtype_name(tensor.dtype),
        bytes=nbytes(tensor),
        module=module_of(node),
        source=source_of(node),
        made_at=made_at,
        last_used_at=last_used_at,
    )


def _timeline(
    module: GraphModule, graph: str, alive: Sequence[LiveTensor], attention: Attention, start: int
) -> Iterator[Point]:
    nodes = _operators(module)
    change = [0] * (len(nodes) + 1)
    for tensor in alive if nodes else ():
        change[tensor.made_at - start] += tensor.bytes
        change[tensor.last_used_at + 1 - start] -= tensor.bytes
    live = 0
    for offset, node in enumerate(nodes):
        live += change[offset]
        scratch = score_bytes(node) if attention == "materialized" else 0
        place = (graph, node.name, op_name(node), module_of(node), source_of(node))
        yield Point(start + offset, *place, live + scratch, scratch)


def _operators(module: GraphModule) -> list[Node]:
    return [node for node in module.graph.nodes if node.op == "call_function"]


def score_bytes(node: Node) -> int:
    """Bytes of the two score buffers of an attention that stores its scores, 0 for every other operator."""
    if node.target not in ATTENTION:
        return 0
    query, key = (tensor_of(argument) for argument in node.args[:2])  # type: ignore[arg-type]
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * query.element_size()

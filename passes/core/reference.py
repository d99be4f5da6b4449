"""The oracle: walk a Program's plan in torch eager, node by node, forgetting values after their last use."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core.aliases import buffer_of
from penstock.passes.core.eager import Eager
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Call, Op, Program, SliceLoop, Window, result_nodes

Observer = Callable[[str, Node, Any], None]


def run(program: Program, inputs: Iterable[torch.Tensor], observe: Observer | None = None) -> tuple[torch.Tensor, ...]:
    """The outputs of a Program, in the order of its signature.

    Args:
        inputs: one tensor per input of the signature, of its shape and dtype, on the Program's device. Those that
            nothing else holds, as where they come from a generator, die after their last use.
        observe: called with (graph name, node, value) for each operator as it runs.

    Raises:
        UsageError: the Program was captured on fake tensors.
    """
    if program.is_fake:
        raise UsageError(
            "the program was captured on fake tensors: its weights have shapes but no data, so it cannot run; "
            "capture it with real weights"
        )
    values = {spec.name: tensor for spec, tensor in zip(program.signature.inputs, inputs, strict=True)}
    outputs = {spec.name for spec in program.signature.outputs}
    ready = _ready(program)
    steps = ready.steps(None, tuple(program.plan.ops()), outputs, values.keys())
    with torch.no_grad():
        _Run(ready, observe).ops(steps, values)
    return tuple(values[spec.name] for spec in program.signature.outputs)


@dataclass(frozen=True)
class _Step:
    """One op.

    Attributes:
        dying: the arguments that die inside of it.
        forgotten: the names that nothing needs after it.
        graph: that a call runs; None for a loop.
    """

    op: Op
    dying: tuple[str, ...]
    forgotten: tuple[str, ...]
    graph: Eager | None


class _Ready:
    """What every run of a Program needs, found out once."""

    def __init__(self, program: Program) -> None:
        self.device = program.device
        self._graphs = program.graphs  # not the Program, which lives as long as somebody else holds it
        self._in_place = program.in_place
        # by name and the arguments to write over
        self._eager: dict[tuple[str, Set[int] | None], Eager] = {}
        self._steps: dict[int | None, list[_Step]] = {}  # by the identity of the piece of a loop; None for the plan

    def steps(self, piece: int | None, ops: Sequence[Op], kept: Set[str], given: Set[str]) -> list[_Step]:
        """Some ops, with what dies at each.

        Args:
            kept: the values that are needed afterwards.
            given: those that are the caller's, who may look at their memory later.
        """
        if piece not in self._steps:
            last = {name: index for index, op in enumerate(ops) for name in (*op.args, *op.results)}
            self._steps[piece] = steps = []
            for index, op in enumerate(ops):
                dying = tuple(name for name in op.args if last[name] == index and name not in kept)
                gone = tuple(name for name in {*op.args, *op.results} if last[name] == index and name not in kept)
                graph = self._called(op, set(dying) - given)
                steps.append(_Step(op, dying, gone, graph))
                given = given - set(op.results) | self._lent(op)
        return self._steps[piece]

    def _called(self, op: Op, ours: Set[str]) -> Eager | None:
        if not isinstance(op, Call):
            return None
        places = frozenset(place for place, name in enumerate(op.args) if name in ours and op.args.count(name) == 1)
        key = op.graph, places if self._in_place else None
        if key not in self._eager:
            self._eager[key] = Eager(self._graphs[op.graph], key[1], self.device)
        return self._eager[key]

    def _lent(self, op: Op) -> set[str]:
        """The results of a call that are weights."""
        if not isinstance(op, Call):
            return set()
        made = zip(op.results, result_nodes(self._graphs[op.graph]), strict=True)
        return {name for name, node in made if buffer_of(node) is None}


_READY: dict[int, _Ready] = {}  # by the identity of a Program, as long as it lives


def _ready(program: Program) -> _Ready:
    key = id(program)
    if key not in _READY:
        _READY[key] = _Ready(program)
        weakref.finalize(program, _READY.pop, key, None)
    return _READY[key]


class _Run:
    """One walk over a plan."""

    def __init__(self, ready: _Ready, observe: Observer | None) -> None:
        self._ready = ready
        self._observe = observe

    def ops(self, steps: Sequence[_Step], values: dict[str, torch.Tensor]) -> None:
        """Run ops on named values, and forget each value after its last use."""
        given = frozenset(values)
        for step in steps:
            op = step.op
            if isinstance(op, Call) and step.graph is not None:
                args = [values[name] for name in op.args]
                for name in step.dying:
                    values.pop(name, None)  # so that it dies inside of the graph
                observe = None if self._observe is None else partial(self._observe, op.graph)
                values.update(zip(op.results, step.graph.run(args, observe), strict=True))
            elif isinstance(op, SliceLoop):
                self._loop(op, values, given)
            for name in step.forgotten:
                values.pop(name, None)

    def _loop(self, loop: SliceLoop, values: dict[str, torch.Tensor], given: Set[str]) -> None:
        """Make the results of a loop part by part. What the caller gave is never written over."""
        results = []
        for spec, reused in zip(loop.specs, loop.reuses, strict=True):
            if reused is not None and reused not in given and values[reused].is_contiguous():
                results.append(values[reused].view(spec.shape))
            else:
                results.append(torch.empty(spec.shape, dtype=spec.dtype, device=self._ready.device))
        kept: dict[str, torch.Tensor] = {}
        for piece in loop.pieces:
            seen = {
                param for param, (_, window) in zip(piece.params, piece.args, strict=True) if not _is_copied(window)
            }
            steps = self._ready.steps(id(piece), piece.ops, set(piece.made), seen)
            for k in range(piece.count):
                local = {
                    param: values[name] if window is None else part(values[name], window, k)
                    for param, (name, window) in zip(piece.params, piece.args, strict=True)
                }
                local |= {each.value: kept.pop(each.memory) for each in piece.takes}
                self.ops(steps, local)
                kept = {each.memory: local[each.value] for each in piece.keeps}
                for result, window, name in zip(results, piece.tiles, piece.returns, strict=True):
                    if window is None or name is None:
                        continue
                    target = _narrowed(result, window, k)
                    target.copy_(local[name].reshape(target.shape))
                local.clear()  # the next part finds no memory of this one
        values.update(zip(loop.results, results, strict=True))


def part(tensor: torch.Tensor, window: Window, k: int) -> torch.Tensor:
    """What iteration k sees of a tensor through a window; a view where it can be."""
    seen = _narrowed(tensor, window, k)
    return seen if window.outer == 1 else seen.reshape(window.shape(tensor.shape))


def _is_copied(window: Window | None) -> bool:
    """Whether each part through a window has memory of its own."""
    return window is not None and window.outer > 1 and window.extent < window.size


def _narrowed(tensor: torch.Tensor, window: Window, k: int) -> torch.Tensor:
    """A part of a tensor; where the axis is not all of its dimension, that is taken apart into the three factors."""
    start = window.start + k * window.step
    if window.outer == 1:
        return tensor.narrow(window.dim, start * window.inner, window.extent * window.inner)
    return tensor.reshape(window.split(tensor.shape, window.size)).narrow(window.dim + 1, start, window.extent)

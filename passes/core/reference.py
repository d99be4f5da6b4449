"""The oracle: walk a Program's plan in torch eager, node by node, forgetting values after their last use."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core.eager import Eager
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Call, Op, Program, SliceLoop, Window

Observer = Callable[[str, Node, Any], None]


def run(program: Program, inputs: Iterable[torch.Tensor], observe: Observer | None = None) -> tuple[torch.Tensor, ...]:
    """The outputs of a Program, in the order of its signature.

    Args:
        inputs: one tensor per input of the signature, of its shape and dtype. Those that nothing else holds, as where
            they come from a generator, die after their last use.
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
    with torch.no_grad():
        _Run(program, ready, observe).ops(ready.steps(None, tuple(program.plan.ops()), outputs), values)
    return tuple(values[spec.name] for spec in program.signature.outputs)


@dataclass(frozen=True)
class _Step:
    """One op.

    Attributes:
        dying: the arguments that die inside of it.
        forgotten: the names that nothing needs after it.
    """

    op: Op
    dying: tuple[str, ...]
    forgotten: tuple[str, ...]


class _Ready:
    """What every run of a Program needs, found out once."""

    def __init__(self) -> None:
        self.graphs: dict[str, Eager] = {}
        self._steps: dict[int | None, list[_Step]] = {}  # by the identity of the piece of a loop; None for the plan

    def steps(self, piece: int | None, ops: Sequence[Op], kept: Set[str]) -> list[_Step]:
        """Some ops, with what dies at each."""
        if piece not in self._steps:
            last = {name: index for index, op in enumerate(ops) for name in (*op.args, *op.results)}
            self._steps[piece] = [
                _Step(
                    op,
                    tuple(name for name in op.args if last[name] == index and name not in kept),
                    tuple(name for name in {*op.args, *op.results} if last[name] == index and name not in kept),
                )
                for index, op in enumerate(ops)
            ]
        return self._steps[piece]


_READY: dict[int, _Ready] = {}  # by the identity of a Program, as long as it lives


def _ready(program: Program) -> _Ready:
    key = id(program)
    if key not in _READY:
        _READY[key] = _Ready()
        weakref.finalize(program, _READY.pop, key, None)
    return _READY[key]


class _Run:
    """One walk over a plan."""

    def __init__(self, program: Program, ready: _Ready, observe: Observer | None) -> None:
        self._program = program
        self._ready = ready
        self._observe = observe

    def ops(self, steps: Sequence[_Step], values: dict[str, torch.Tensor]) -> None:
        """Run ops on named values, and forget each value after its last use."""
        given = frozenset(values)
        for step in steps:
            op = step.op
            if isinstance(op, Call):
                args = [values[name] for name in op.args]
                for name in step.dying:
                    values.pop(name, None)  # so that it dies inside of the graph
                values.update(zip(op.results, self._graph(op.graph, args), strict=True))
            else:
                self._loop(op, values, given)
            for name in step.forgotten:
                values.pop(name, None)

    def _graph(self, name: str, args: list[torch.Tensor]) -> list[torch.Tensor]:
        graphs = self._ready.graphs
        if name not in graphs:
            graphs[name] = Eager(self._program.graphs[name])
        observe = self._observe
        return graphs[name].run(args, None if observe is None else partial(observe, name))

    def _loop(self, loop: SliceLoop, values: dict[str, torch.Tensor], given: Set[str]) -> None:
        """Make the results of a loop part by part. What the caller gave is never written over."""
        results = []
        for spec, reused in zip(loop.specs, loop.reuses, strict=True):
            if reused is not None and reused not in given and values[reused].is_contiguous():
                results.append(values[reused].view(spec.shape))
            else:
                results.append(torch.empty(spec.shape, dtype=spec.dtype))
        for piece in loop.pieces:
            steps = self._ready.steps(id(piece), piece.ops, set(piece.returns))
            for k in range(piece.count):
                local = {
                    param: values[name] if window is None else part(values[name], window, k)
                    for param, (name, window) in zip(piece.params, piece.args, strict=True)
                }
                self.ops(steps, local)
                for result, window, name in zip(results, piece.tiles, piece.returns, strict=True):
                    target = _narrowed(result, window, k)
                    target.copy_(local[name].reshape(target.shape))
                local.clear()  # the next part finds no memory of this one
        values.update(zip(loop.results, results, strict=True))


def part(tensor: torch.Tensor, window: Window, k: int) -> torch.Tensor:
    """What iteration k sees of a tensor through a window; a view where it can be."""
    seen = _narrowed(tensor, window, k)
    return seen if window.outer == 1 else seen.reshape(window.shape(tensor.shape))


def _narrowed(tensor: torch.Tensor, window: Window, k: int) -> torch.Tensor:
    """A part of a tensor; where the axis is not all of its dimension, that is taken apart into the three factors."""
    start = window.start + k * window.step
    if window.outer == 1:
        return tensor.narrow(window.dim, start * window.inner, window.extent * window.inner)
    return tensor.reshape(window.split(tensor.shape, window.size)).narrow(window.dim + 1, start, window.extent)

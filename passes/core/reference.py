"""The oracle: walk a Program's plan in torch eager, node by node, forgetting values after their last use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core.eager import Eager
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Call, Op, Program, SliceLoop, Window

Observer = Callable[[str, Node, Any], None]


def run(program: Program, inputs: Sequence[torch.Tensor], observe: Observer | None = None) -> tuple[torch.Tensor, ...]:
    """The outputs of a Program, in the order of its signature.

    Args:
        inputs: one tensor per input of the signature, of its shape and dtype.
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
    with torch.no_grad():
        _Run(program, observe).ops(tuple(program.plan.ops()), values, {spec.name for spec in program.signature.outputs})
    return tuple(values[spec.name] for spec in program.signature.outputs)


class _Run:
    """One walk over a plan."""

    def __init__(self, program: Program, observe: Observer | None) -> None:
        self._program = program
        self._observe = observe
        self._ready: dict[str, Eager] = {}

    def ops(self, ops: Sequence[Op], values: dict[str, torch.Tensor], kept: set[str]) -> None:
        """Run ops on named values, and forget each value after its last use."""
        given = set(values)
        last = {name: index for index, op in enumerate(ops) for name in (*op.args, *op.results)}
        for index, op in enumerate(ops):
            if isinstance(op, Call):
                args = [values[name] for name in op.args]
                for name in op.args:
                    if last[name] == index and name not in kept:
                        values.pop(name, None)  # so that it dies inside of the graph
                values.update(zip(op.results, self._graph(op.graph, args), strict=True))
            else:
                self._loop(op, values, given)
            for name in {*op.args, *op.results}:
                if last[name] == index and name not in kept:
                    values.pop(name, None)

    def _graph(self, name: str, args: list[torch.Tensor]) -> list[torch.Tensor]:
        if name not in self._ready:
            self._ready[name] = Eager(self._program.graphs[name])
        observe = self._observe
        return self._ready[name].run(args, None if observe is None else partial(observe, name))

    def _loop(self, loop: SliceLoop, values: dict[str, torch.Tensor], given: set[str]) -> None:
        """Make the results of a loop part by part. What the caller gave is never written over."""
        results = []
        for spec, reused in zip(loop.specs, loop.reuses, strict=True):
            if reused is not None and reused not in given and values[reused].is_contiguous():
                results.append(values[reused].view(spec.shape))
            else:
                results.append(torch.empty(spec.shape, dtype=spec.dtype))
        for piece in loop.pieces:
            for k in range(piece.count):
                local = {
                    param: values[name] if window is None else part(values[name], window, k)
                    for param, (name, window) in zip(piece.params, piece.args, strict=True)
                }
                self.ops(piece.ops, local, set(piece.returns))
                for result, window, name in zip(results, piece.tiles, piece.returns, strict=True):
                    target = _narrowed(result, window, k)
                    target.copy_(local[name].reshape(target.shape))
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

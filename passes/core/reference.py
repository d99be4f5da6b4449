"""The oracle: walk a Program's plan in torch eager, node by node, freeing values after their last use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program

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
        for op in program.plan.ops():
            graph = program.graphs[op.graph]
            results = _Walker(graph, op.graph, observe).run(*(values[name] for name in op.args))
            values.update(zip(op.results, results, strict=True))
    return tuple(values[spec.name] for spec in program.signature.outputs)


class _Walker(Interpreter):
    """FX's interpreter, which names the node and the user's source line when an operator fails."""

    def __init__(self, module: GraphModule, name: str, observe: Observer | None) -> None:
        super().__init__(module, garbage_collect_values=True)
        self._name = name
        self._observe = observe

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if self._observe is not None and n.op == "call_function":
            self._observe(self._name, n, value)
        return value

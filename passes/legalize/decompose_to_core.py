"""The general fallback: torch's own decompositions, down to the door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._decomp import global_decomposition_table
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from penstock.passes.core.base import Pass, Refusal, Replacement, check_type, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Emitter, Rewriter
from penstock.passes.core.shapes import FAKE_MODE
from penstock.passes.legalize.door import DOOR

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class DecomposeToCore(Pass):
    """Take apart every operator outside the door by torch's own decompositions.

    What: each such operator is traced on fake tensors, decomposition after decomposition, until only operators of the
    door are left; these stand in its place under its name and source line. What torch does not take apart that far
    stays, with the operators at which it stopped as the reason.

    Given::

        hardtanh = hardtanh(x, 0.0, 6.0)            f32[2, 4]

    Result::

        hardtanh = clamp(x, 0.0, 6.0)               f32[2, 4]

    Options: none.

    Exactness: exact up to rounding, as far as torch's decompositions are.

    Source: ``torch._decomp``.
    """

    def run(self, program: Program, context: Context) -> Program:
        """Replace what can be replaced."""
        changed = {}
        for name, module in program.graphs.items():
            if all(node.op != "call_function" or node.target in DOOR for node in module.graph.nodes):
                continue
            edit = Rewriter(module, self.name())
            replaced = 0
            for node in edit.nodes():
                if node.target in DOOR:
                    continue
                answer = _decompose(node, edit.at(node))
                if isinstance(answer, Refusal):
                    context.decline(self.name(), node, answer.reason)
                elif answer is not None:
                    check_type(self.name(), node, answer)
                    edit.replace(node, answer)
                    replaced += 1
            if replaced:
                changed[name] = edit.finish(name)
        return program.with_graphs(**changed) if changed else program


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    """What torch has for operators outside the door, and the ATen form of those primitives at which it stops."""
    table: dict[Any, Callable[..., Any]] = {
        target: function
        for target, function in global_decomposition_table["post_autograd"].items()
        if target not in DOOR and not _is_composite(target)
    }
    inside = {target._schema.name.removeprefix("aten::") for target in DOOR if isinstance(target, OpOverload)}
    for name in inside | {"broadcast_in_dim", "iota"}:
        primitive = getattr(torch.ops.prims, name, None)
        if primitive is not None:
            table[primitive.default] = primitive.impl_aten
    table[torch.ops.prims.convert_element_type.default] = lambda x, dtype: aten._to_copy.default(x, dtype=dtype)
    return table


def _is_composite(target: Any) -> bool:
    """Whether torch's dispatcher takes the operator apart by itself."""
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return isinstance(target, OpOverload) and target.has_kernel_for_dispatch_key(composite)


def _decompose(node: Node, emit: Emitter) -> Replacement:
    try:
        traced = _trace(node)
    except Exception as error:
        reason = str(error).strip().splitlines()
        return Refusal(f"torch cannot trace {node.target}: {reason[0] if reason else type(error).__name__}")
    foreign = [inner.target for inner in traced.graph.nodes if not _is_legal(inner)]
    if foreign == [node.target]:
        return Refusal(f"torch has no decomposition of {node.target}")
    if foreign:
        return Refusal(f"torch takes it apart only as far as {', '.join(sorted(set(map(str, foreign))))}")
    return _inline(traced, node, emit)


def _trace(node: Node) -> GraphModule:
    """The decomposition of one node as a graph over the tensors it uses."""

    def call(*tensors: torch.Tensor) -> Any:
        values = dict(zip(node.all_input_nodes, tensors, strict=True))
        args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    with FAKE_MODE, torch.no_grad():
        traced: GraphModule = make_fx(call, decomposition_table=_decompositions())(
            *(used.meta["val"] for used in node.all_input_nodes)
        )
    traced.graph.eliminate_dead_code()
    return traced


def _is_legal(inner: Node) -> bool:
    return inner.op in ("placeholder", "output") or (inner.op == "call_function" and inner.target in DOOR)


def _inline(traced: GraphModule, node: Node, emit: Emitter) -> Replacement:
    inputs = iter(node.all_input_nodes)
    made: dict[Node, Node] = {}
    for inner in traced.graph.nodes:
        if inner.op == "placeholder":
            made[inner] = next(inputs)
        elif inner.op == "call_function":
            args, kwargs = map_arg((inner.args, inner.kwargs), made.__getitem__)
            made[inner] = emit(inner.target, *args, **kwargs)
    result = traced.graph.output_node().args[0]
    if isinstance(result, Node):
        return made[result]
    return [made[item] for item in result]  # type: ignore[index,union-attr]

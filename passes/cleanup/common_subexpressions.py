"""Common subexpressions: what is computed twice is computed once."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from penstock.passes.core.base import Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter


@register
@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Merge operators that compute the same from the same.

    What:
        Many models build position tables, masks and time embeddings again in every block. The first of equal
        operators stays; operators that draw random numbers are never merged. Weights are merged by name.

    Given::

        cos = cos(x)              f32[4]
        cos_1 = cos(x)            f32[4]
        add = add(cos, cos_1)     f32[4]

    Result::

        cos = cos(x)              f32[4]
        add = add(cos, cos)       f32[4]

    Exactness:
        Exact, bit by bit. The merged value lives longer: from its first use to its last.
    """

    def run(self, program: Program, context: Context) -> Program:
        """Merge within every graph that holds equal operators."""
        changed = {}
        for name, module in program.graphs.items():
            twins = _twins(module)
            if not twins:
                continue
            edit = Rewriter(module, self.name())
            for node, first in twins.items():
                edit.origin[node].replace_all_uses_with(edit.origin[first])
            changed[name] = edit.finish(name)
        return program.with_graphs(**changed) if changed else program


def _twins(module: GraphModule) -> dict[Node, Node]:
    """Each node that repeats an earlier one, and that one."""
    first: dict[Hashable, Node] = {}
    twins: dict[Node, Node] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr" or (node.op == "call_function" and _is_deterministic(node)):
            key = (node.op, node.target, _key(node.args, twins), _key(node.kwargs, twins))
            known = first.setdefault(key, node)
            if known is not node:
                twins[node] = known
    return twins


def _is_deterministic(node: Node) -> bool:
    if node.target is operator.getitem:
        return True
    assert isinstance(node.target, OpOverload)
    return torch.Tag.nondeterministic_seeded not in node.target.tags


def _key(argument: Any, twins: dict[Node, Node]) -> Hashable:
    """A hashable form of arguments in which equal nodes are equal, and 1, 1.0 and True are not."""
    if isinstance(argument, Node):
        return twins.get(argument, argument)
    if isinstance(argument, (tuple, list)):
        return tuple(_key(item, twins) for item in argument)
    if isinstance(argument, dict):
        return tuple((name, _key(item, twins)) for name, item in sorted(argument.items()))
    return (type(argument), repr(argument))

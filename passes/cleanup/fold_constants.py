"""Constant folding: what depends on nothing but weights is computed once, at compile time."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves, tree_map

from penstock.passes.core.base import Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.eager import on_device
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import fake_like, is_fake, nbytes, value_of

aten = torch.ops.aten

_UNINITIALISED = ("aten::empty", "aten::new_empty")
_KEPT_AS_THEY_ARE = frozenset({aten.expand.default})
"""A view that repeats elements: as a weight it would only be larger."""


@register
@dataclass(frozen=True)
class FoldConstants(Pass):
    """Compute at compile time what depends on weights and constants alone.

    What:
        Position tables, masks, reshaped or scaled weights. Each folded value becomes a weight ``folded.NAME``. A value
        that is larger than what it is computed from by more than `max_growth_bytes` is left to the device: an artifact
        should not store what a kernel can make.

    Given::

        arange = arange.start_step(0, 4, 1)      i64[4]
        mul = mul(arange, freq)                  f32[4]
        add = add(x, mul)                        f32[4]

    Result::

        w    folded.mul                          f32[4]
        add = add(x, folded.mul)                 f32[4]

    Options:
        max_growth_bytes: bytes that one folded value may be larger than the weights it replaces.
        without_data: fold weights without data, too, into such without data. Then a model has the same graph with and
            without its weights, but can be given none later (`Program.with_data`).

    Exactness:
        Exact, bit by bit: values are computed by PyTorch eager, as the model would.
    """

    max_growth_bytes: int = 1 << 20
    without_data: bool = False

    def run(self, program: Program, context: Context) -> Program:
        """Fold every graph; a value that two graphs share is stored once."""
        pool: dict[tuple[Any, ...], torch.Tensor] = {}
        changed = {}
        for name, module in program.graphs.items():
            folded = self._fold(name, module, program.weights, program.device, pool)
            if folded is not None:
                changed[name] = folded
        return program.with_graphs(**changed) if changed else program

    def _fold(
        self,
        name: str,
        module: GraphModule,
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        pool: dict[tuple[Any, ...], torch.Tensor],
    ) -> GraphModule | None:
        values, sizes = _constant_values(module, weights, device, self.without_data)
        border = [
            node
            for node in values
            if node.op == "call_function"
            and any(user not in values for user in node.users)
            and isinstance(values[node], torch.Tensor)
            and node.target not in _KEPT_AS_THEY_ARE
            and nbytes(values[node]) <= sizes[node] + self.max_growth_bytes
        ]
        if not border:
            return None
        edit = Rewriter(module, self.name())
        for node in border:
            value = values[node].detach()
            key: tuple[Any, ...] = name, node.name
            if is_fake(value):  # what it holds is not known, and so is never equal
                value = fake_like(torch.empty(value.shape, dtype=value.dtype, device="meta"))
            else:
                value = value.contiguous()
                key = (value.dtype, tuple(value.shape), value.reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
            constant = edit.at(edit.origin[node]).constant(pool.setdefault(key, value), f"folded.{node.name}")
            edit.replace(edit.origin[node], constant)
        return edit.finish(name)


def _constant_values(
    module: GraphModule, weights: Mapping[str, torch.Tensor], device: torch.device, without_data: bool
) -> tuple[dict[Node, Any], dict[Node, int]]:
    """Each node that depends on weights and constants alone, evaluated, and the bytes of weights behind it.

    Args:
        without_data: those that depend on weights without data among them; they have none either.
    """
    values: dict[Node, Any] = {}
    sizes: dict[Node, int] = {}
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "get_attr":
                weight = weights[str(node.target)]
                if without_data or not is_fake(weight):
                    values[node], sizes[node] = weight, nbytes(value_of(node))
            elif node.op == "call_function" and all(used in values for used in node.all_input_nodes) and _is_pure(node):
                args, kwargs = tree_map(
                    lambda item: values[item] if isinstance(item, Node) else item, on_device(node, device)
                )
                is_known = not any(map(is_fake, tree_leaves((args, kwargs))))
                values[node] = node.target(*args, **kwargs) if is_known else node.meta["val"]
                sizes[node] = sum(sizes[used] for used in node.all_input_nodes)
    return values, sizes


def _is_pure(node: Node) -> bool:
    """Whether an operator gives the same result every time: not random, and not uninitialised memory."""
    if node.target is operator.getitem:
        return True
    assert isinstance(node.target, OpOverload)
    random = torch.Tag.nondeterministic_seeded in node.target.tags and "scaled_dot_product" not in str(node.target)
    return not random and not node.target._schema.name.startswith(_UNINITIALISED)

"""Complex numbers as pairs of reals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.fx import Node

from penstock.passes.core.base import Pass, Refusal, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.legalize.complex_pairs import RULES, is_complex, pairs_of


@register
@dataclass(frozen=True)
class RealRope(Pass):
    """Compute rotary position embeddings, and whatever else is complex, on pairs of real numbers.

    What: many transformers rotate queries and keys by viewing neighbouring channels as complex numbers and multiplying
    them with complex constants. Every complex value of a graph becomes a real one with a last dimension of 2, real part
    first; complex weights are split likewise. The layout is that of `view_as_complex`, which therefore costs nothing.

    Given::

        w    rope                                           c64[6, 4]
        view_as_complex = view_as_complex(x)                c64[2, 6, 4]     (x f32[2, 6, 4, 2])
        mul = mul(view_as_complex, rope)                    c64[2, 6, 4]
        view_as_real = view_as_real(mul)                    f32[2, 6, 4, 2]

    Result::

        w    rope_pairs                                     f32[6, 4, 2]
        mul_select = select.int(x, 3, 0)                    f32[2, 6, 4]
        mul_select_1 = select.int(x, 3, 1)                  f32[2, 6, 4]
        mul_select_2 = select.int(rope_pairs, 2, 0)         f32[6, 4]
        mul_select_3 = select.int(rope_pairs, 2, 1)         f32[6, 4]
        mul_mul = mul(mul_select, mul_select_2)             f32[2, 6, 4]
        mul_mul_1 = mul(mul_select_1, mul_select_3)         f32[2, 6, 4]
        mul_sub = sub(mul_mul, mul_mul_1)                   f32[2, 6, 4]
        mul_mul_2 = mul(mul_select, mul_select_3)           f32[2, 6, 4]
        mul_mul_3 = mul(mul_select_1, mul_select_2)         f32[2, 6, 4]
        mul_add = add(mul_mul_2, mul_mul_3)                 f32[2, 6, 4]
        view_as_real = stack([mul_sub, mul_add], 3)         f32[2, 6, 4, 2]

    Options: none.

    Exactness: exact up to rounding. A graph that takes or returns complex numbers, or that does something else with
    them than arithmetic and layout (a Fourier transform, a matrix product), is refused as a whole.

    Source: J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, section 3.4.2 (the
    rotation as real arithmetic).
    """

    def run(self, program: Program, context: Context) -> Program:
        """Convert every graph that holds complex values."""
        changed = {}
        split: dict[str, torch.Tensor] = {}
        for name, module in program.graphs.items():
            involved = [node for node in module.graph.nodes if _is_involved(node)]
            refusals = [(node, refusal) for node in involved if (refusal := _refusal(node))]
            for node, refusal in refusals:
                context.decline(self.name(), node, refusal.reason)
            if involved and not refusals:
                edit = Rewriter(module, self.name())
                _convert(edit, [edit.origin[node] for node in involved], split)
                changed[name] = edit.finish(name)
        return program.with_graphs(**changed) if changed else program


def _is_involved(node: Node) -> bool:
    return is_complex(node) or any(is_complex(used) for used in node.all_input_nodes)


def _refusal(node: Node) -> Refusal | None:
    if node.op == "placeholder":
        return Refusal("the graph takes complex numbers; pass their real and imaginary parts as one real tensor")
    if node.op == "output":
        return Refusal("the graph returns complex numbers; return torch.view_as_real of them")
    if node.op == "call_function" and node.target not in RULES:
        return Refusal(f"{node.target} has no form on pairs of reals")
    return None


def _convert(edit: Rewriter, involved: list[Node], split: dict[str, torch.Tensor]) -> None:
    """Replace the involved nodes, in order. `split` holds the converted weights, shared between graphs."""
    pairs: dict[Node, Node] = {}
    for node in involved:
        emit = edit.at(node)
        if node.op == "get_attr":
            name = str(node.target)
            split.setdefault(name, pairs_of(edit.weights[name]))
            pairs[node] = emit.constant(split[name], f"{name}_pairs")
            continue
        made = RULES[node.target](node, emit, pairs)
        if is_complex(node):
            pairs[node] = made
        else:
            edit.replace(node, made)

"""Dead code: what nothing uses."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import GraphModule

from penstock.passes.core.base import Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter


@register
@dataclass(frozen=True)
class DeadCode(Pass):
    """Remove operators and weights that no output depends on.

    What:
        FX's own elimination keeps every operator with a random tag, attention among them. In penstock's dialect no
        operator has an effect, so whatever is unused goes. Inputs and outputs stay, used or not.

    Given::

        w    unused.weight        f32[4, 4]
        sin = sin(x)              f32[4]
        cos = cos(x)              f32[4]
        return (cos)

    Result::

        cos = cos(x)              f32[4]
        return (cos)

    Exactness:
        Exact, bit by bit.
    """

    def run(self, program: Program, context: Context) -> Program:
        """Remove dead nodes from every graph that has some."""
        changed = {
            name: Rewriter(module, self.name()).finish(name)
            for name, module in program.graphs.items()
            if _has_dead_nodes(module)
        }
        return program.with_graphs(**changed) if changed else program


def _has_dead_nodes(module: GraphModule) -> bool:
    return any(not node.users and node.op in ("call_function", "get_attr") for node in module.graph.nodes)

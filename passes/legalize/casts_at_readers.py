"""Casts to a wider type, made by each kernel that reads them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.fx import Node

from penstock.passes.core.base import Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import dtype_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class CastsAtReaders(Pass):
    """Cast to a wider type once for every reader, if all of them can do it on the fly.

    What: norms of half-precision models compute in float32, and read their operand several times. A value that several
    kernels read is stored, twice as large as the operand that it was cast from; a cast for each reader is part of that
    reader's kernel. Element-wise operators and reductions can be such readers. Merging common subexpressions undoes
    this, so it comes last.

    Given::

        _to_copy = _to_copy(x, dtype=float32)       f32[4, 8]    (x f16[4, 8])
        mean = mean.dim(_to_copy, [1], True)        f32[4, 1]
        sub = sub(_to_copy, mean)                   f32[4, 8]

    Result::

        _to_copy = _to_copy(x, dtype=float32)       f32[4, 8]
        mean = mean.dim(_to_copy, [1], True)        f32[4, 1]
        sub_to_copy = _to_copy(x, dtype=float32)    f32[4, 8]
        sub = sub(sub_to_copy, mean)                f32[4, 8]

    Options: none.

    Exactness: exact, bit by bit.
    """

    def run(self, program: Program, context: Context) -> Program:
        """Take casts apart in every graph that holds any."""
        changed = {}
        for name, module in program.graphs.items():
            casts = [node for node in module.graph.nodes if _is_shared(node)]
            if not casts:
                continue
            edit = Rewriter(module, self.name())
            for cast in (edit.origin[node] for node in casts):
                for reader in list(cast.users)[1:]:
                    reader.replace_input_with(cast, edit.at(reader)(aten._to_copy.default, *cast.args, **cast.kwargs))
            changed[name] = edit.finish(name)
        return program.with_graphs(**changed) if changed else program


def _is_shared(node: Node) -> bool:
    """Whether a node is a cast to a wider type that several kernels read, each of which can make it."""
    if node.target is not aten._to_copy.default or len(node.users) < 2:
        return False
    (operand,) = node.all_input_nodes
    return dtype_of(node).itemsize > dtype_of(operand).itemsize and all(map(_casts, node.users))


def _casts(reader: Node) -> bool:
    tags = getattr(reader.target, "tags", ())
    return torch.Tag.pointwise in tags or torch.Tag.reduction in tags or reader.target is aten._to_copy.default

"""Extrema with their places, as two reductions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of

aten = torch.ops.aten

_LARGEST = (aten.max.default, aten.max.dim)


@register
@dataclass(frozen=True)
class DecomposeMinMax(RewritePass):
    """Write `max.dim`, `min.dim` and `aminmax` as separate reductions.

    What: torch gives the extremum and its place as a tuple. Each half becomes a reduction of its own, and a half that
    nothing reads disappears. Of equal extrema both forms take the first; a NaN is the extremum in both.

    Given::

        max_1 = max.dim(x, 1)                       (f32[2], i64[2])     (x f32[2, 5])
        getitem = getitem(max_1, 0)                 f32[2]
        getitem_1 = getitem(max_1, 1)               i64[2]

    Result::

        getitem = amax(x, [1], False)               f32[2]
        getitem_1 = argmax(x, 1, False)             i64[2]

    Options: none.

    Exactness: exact, the same elements.
    """

    operators: ClassVar[Operators] = (
        aten.max.dim, aten.min.dim, aten.max.default, aten.min.default, aten.aminmax.default,
    )  # fmt: skip

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """One reduction per result."""
        now = arguments_of(node)
        x = now["self"]
        dims = [] if now.get("dim") is None else [now["dim"]]
        keep = now.get("keepdim", False)
        if node.target is aten.aminmax.default:
            return [emit(aten.amin.default, x, dims, keep), emit(aten.amax.default, x, dims, keep)]
        largest = node.target in _LARGEST
        value = emit(aten.amax.default if largest else aten.amin.default, x, dims, keep)
        if not dims:
            return value
        if dtype_of(x) == torch.bool:
            x = emit(aten._to_copy.default, x, dtype=torch.uint8)
        return [value, emit(aten.argmax.default if largest else aten.argmin.default, x, dims[0], keep)]

"""Indices and dimensions counted from the front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of
from penstock.passes.legalize.dimensions import dimension_arguments

aten = torch.ops.aten

_SELECT = (aten.select.int, aten.select_scatter.default)
_SLICE = (aten.slice.Tensor, aten.slice_scatter.default)


@register
@dataclass(frozen=True)
class NonNegativeIndices(RewritePass):
    """Count indices, slice borders and dimensions from the front.

    What: a negative index of `select` counts from the end, and a slice may reach past the end. Back ends that do not
    check bounds read foreign memory there, silently. Afterwards `select` has an index in ``[0, extent)``, a slice has
    ``0 <= start <= end <= extent``, and every dimension is named by its place from the front.

    Given::

        select = select.int(x, -2, -1)                              f32[2, 4]     (x f32[2, 3, 4])
        slice_1 = slice(x, -1, -3, 9223372036854775807)             f32[2, 3, 3]

    Result::

        select = select.int(x, 1, 2)                                f32[2, 4]
        slice_1 = slice(x, 2, 1, 4)                                 f32[2, 3, 3]

    Options: none.

    Exactness: exact, the same elements are read.
    """

    operators: ClassVar[Operators] = (
        *_SELECT, *_SLICE, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.permute.default,
        aten.transpose.int, aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
        aten.cat.default, aten.stack.default, aten.flip.default, aten.roll.default, aten.sum.dim_IntList,
        aten.mean.dim, aten.amax.default, aten.amin.default, aten.prod.dim_int, aten.var.correction, aten.any.dim,
        aten.all.dim, aten.argmax.default, aten.argmin.default, aten.max.dim, aten.min.dim, aten.cumsum.default,
        aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default,
        aten.index_select.default, aten.gather.default, aten.scatter.src, aten.scatter.value,
        aten.scatter_add.default, aten.topk.default, aten.sort.default,
    )  # fmt: skip

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same call with its indices counted from the front."""
        now = arguments_of(node)
        wanted = dimension_arguments(node)
        if node.target in _SELECT:
            wanted["index"] = now["index"] % _extent(now["self"], wanted["dim"])
        elif node.target in _SLICE:
            extent = _extent(now["self"], wanted["dim"])
            start, end, _ = slice(now["start"], now["end"]).indices(extent)
            wanted["start"], wanted["end"] = start, max(start, end)
        changes = {name: value for name, value in wanted.items() if value != _plain(now[name])}
        if not changes:
            return None
        return emit.changed(node, changes)


def _extent(tensor: Node, dimension: int) -> int:
    return shape_of(tensor)[dimension]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value

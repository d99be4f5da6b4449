"""Nearest-neighbour resizing as repetition or selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten

_SPACE: dict[Any, int] = {
    aten.upsample_nearest1d.vec: 1,
    aten.upsample_nearest2d.vec: 2,
    aten.upsample_nearest3d.vec: 3,
    aten._upsample_nearest_exact1d.vec: 1,
    aten._upsample_nearest_exact2d.vec: 2,
    aten._upsample_nearest_exact3d.vec: 3,
}
_EXACT = (
    aten._upsample_nearest_exact1d.vec,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact3d.vec,
)


@register
@dataclass(frozen=True)
class NearestUpsample(RewritePass):
    """Write nearest-neighbour resizing in three dimensions, or by a broken factor, axis by axis.

    What: along each axis the output names one input element. Where each element is repeated equally often, that is
    unsqueeze, expand, reshape; elsewhere the elements are selected by a constant list, which torch's own resizing of a
    ramp ``0, 1, 2 …`` gives. Resizing in one or two dimensions by whole factors stays: back ends have it.

    Given::

        up = upsample_nearest3d.vec(x, None, [1.0, 2.0, 1.5])               f32[1, 4, 4, 12, 9]   (x f32[1, 4, 4, 6, 6])

    Result::

        up_unsqueeze = unsqueeze(x, 4)                                      f32[1, 4, 4, 6, 1, 6]
        up_expand = expand(up_unsqueeze, [1, 4, 4, 6, 2, 6])                f32[1, 4, 4, 6, 2, 6]
        up_reshape = reshape(up_expand, [1, 4, 4, 12, 6])                   f32[1, 4, 4, 12, 6]
        w    constant.up.width                                              i64[9]
        up = index_select(up_reshape, 4, constant.up.width)                 f32[1, 4, 4, 12, 9]

    Options: none.

    Exactness: exact, the same elements.
    """

    operators: ClassVar[Operators] = tuple(_SPACE)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """One repetition or selection per resized axis."""
        now = arguments_of(node)
        space = _SPACE[node.target]
        factors = now["scale_factors"] or [None] * space
        before, after = shape_of(now["input"])[2:], shape_of(node)[2:]
        exact = node.target in _EXACT
        sources = [_sources(*axis, exact) for axis in zip(before, after, factors, strict=True)]
        whole = [_repeats(source, extent) for source, extent in zip(sources, before, strict=True)]
        if space < 3 and all(whole):
            return None
        value: Node = now["input"]
        for axis, (source, repeats) in enumerate(zip(sources, whole, strict=True), start=2):
            if repeats:
                value = _repeat(emit, value, axis, repeats)
            else:
                name = ("depth", "height", "width")[axis - 2 + 3 - space]
                places = emit.constant(source, f"constant.{node.name}.{name}")
                value = emit(aten.index_select.default, value, axis, places)
        return value


def _sources(before: int, after: int, factor: float | None, exact: bool) -> torch.Tensor:
    """For each output element of an axis the input element it copies. i64[after]."""
    resize = aten._upsample_nearest_exact1d.default if exact else aten.upsample_nearest1d.default
    ramp = torch.arange(before, dtype=torch.float64).reshape(1, 1, before)
    places: torch.Tensor = resize(ramp, [after], factor)
    return places.flatten().to(torch.int64)


def _repeats(source: torch.Tensor, extent: int) -> int:
    """How often each element of an axis appears in turn, or 0 where that differs between elements."""
    count = len(source) // extent
    even = len(source) % extent == 0 and torch.equal(source, torch.arange(extent).repeat_interleave(count))
    return count if even else 0


def _repeat(emit: Emitter, value: Node, axis: int, count: int) -> Node:
    if count == 1:
        return value
    shape = list(shape_of(value))
    copies = emit(aten.unsqueeze.default, value, axis + 1)
    copies = emit(aten.expand.default, copies, [*shape[: axis + 1], count, *shape[axis + 1 :]])
    return emit(aten.reshape.default, copies, [*shape[:axis], shape[axis] * count, *shape[axis + 1 :]])

"""What rules for matrix products and convolutions share: taking a fused function apart and building the new one.

Relax fuses what follows a contraction (a bias, a residual, an activation, a cast) into its function. The lowering marks
the block of the contraction; here everything behind it is inlined into one expression, the epilogue, which the kernel
applies to each number as it leaves the tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.blocks import lanes_of, moved
from penstock.backends.tvm.schedules.cpu.tile import Expr, index

CONTRACTION = "penstock.contraction"
"""Annotation of a block: the kind of contraction that it is. Others, with the same prefix, say more of it."""


@dataclass(frozen=True)
class Contraction:
    """A fused function, taken apart.

    Attributes:
        function: as it was.
        block: of the contraction.
        operands: the buffers that it reads, the left operand first.
        shape: of its result.
    """

    function: Any
    block: Any
    operands: tuple[Any, ...]
    shape: tuple[int, ...]
    _last: Any
    _made: Any

    def annotation(self, name: str) -> Any:
        """What the lowering says of the block, as Python values."""
        return _plain(self.block.annotations[f"{CONTRACTION}.{name}"])

    def lanes(self, width: int) -> AbstractContextManager[Expr]:
        """A loop over neighbouring numbers in which to `finish` each."""
        return lanes_of(width, *([] if self._last is None else [self._last.body.value]))

    def finish(self, value: Expr, position: Sequence[Expr]) -> None:
        """Emit the epilogue: store the result at a position, made from the contraction's `value` there."""
        if self._last is None:
            build.buffer_store(self._made, value, [index(at) for at in position])
            return
        axes = [axis.var for axis in self._last.iter_vars]
        store = self._last.body
        made = moved(store.value, axes, position, {self._made: lambda _: value})
        build.buffer_store(store.buffer, made, [moved(at, axes, position, {}) for at in store.indices])


def contraction(function: Any, kind: str) -> Contraction | None:
    """A function around one contraction of a kind, if everything behind it is elementwise in its result."""
    schedule = s_tir.Schedule(function)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    first = schedule.get(blocks[0])
    if str(first.annotations.get(CONTRACTION, "")) != kind or str(first.writes[0].source.dtype) != "float32":
        return None
    for block in blocks[1:-1]:
        schedule.compute_inline(block)
    last = schedule.get(blocks[-1]) if len(blocks) > 1 else None
    first = schedule.get(blocks[0])
    made = first.writes[0].source
    if last is not None and not _is_epilogue(last, made):
        return None
    return Contraction(
        schedule.mod["main"],
        first,
        tuple(region.source for region in first.reads),
        tuple(int(extent) for extent in made.shape),
        last,
        made,
    )


def _is_epilogue(block: Any, made: Any) -> bool:
    """Whether a block makes each number from the contraction's at the same position."""
    axes = [axis.var for axis in block.iter_vars]
    extents = [int(axis.dom.extent) for axis in block.iter_vars]
    if not isinstance(block.body, tirx.BufferStore) or extents != [int(extent) for extent in made.shape]:
        return False
    loads: list[Any] = []
    tvm_ffi.structural_walk(block.body.value, (tvm.ir.TensorLoad, loads.append))

    def is_own(at: Any, axis: Any, extent: int) -> bool:
        return bool(at.same_as(axis) or (extent == 1 and isinstance(at, tirx.IntImm)))

    places = [load.indices for load in loads if load.source.same_as(made)]
    return bool(places) and all(
        all(is_own(at, axis, extent) for at, axis, extent in zip(place, axes, extents, strict=True))
        for place in (*places, block.body.indices)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (int, str, float)):
        return value
    if hasattr(value, "value"):
        return value.value
    return tuple(_plain(item) for item in value)

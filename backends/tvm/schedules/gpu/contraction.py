"""Sums of products as batched matrix products: C[b, m, n] += A[b, m, k] · B[b, k, n], whatever their indices.

A convolution, a linear layer and a batched product differ in how the places of A depend on m and k only. `normalize`
brings the block of any of them into that form; the places stay a matter of the loads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from penstock.backends.tvm.schedules.gpu.rows import moves_by


@dataclass(frozen=True)
class Contraction:
    """The block that sums, and how its axes take part.

    Attributes:
        rows: position of the operand A among the reads; the other one is B.
        batch: positions of the block's axes that index both operands, or none.
        m: those that index A only.
        n: those that index B only.
        k: those that are summed over.
        extents: of all axes.
        rows_follow_m: whether neighbours along the last axis of m lie closer together in A's memory than those along k.
        columns_follow_n: whether neighbours along n are neighbours in B's memory.
        shared: axes that share an index of what is written in the end, as groups and channels of a convolution do.
            They cannot be padded: beyond the end of one group lies the next one.
        index_dtype: of the axes.
    """

    block: Any
    rows: int
    batch: tuple[int, ...]
    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    extents: tuple[int, ...]
    rows_follow_m: bool
    columns_follow_n: bool
    shared: frozenset[int]
    index_dtype: str

    def extent(self, axes: tuple[int, ...]) -> int:
        """How many places some axes have together."""
        return math.prod(self.extents[axis] for axis in axes)


def find_contraction(schedule: Any) -> Contraction | None:
    """The contraction of a function that holds exactly one sum of products, else None."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    sums = [block for block in blocks if any(_is_summed(axis) for axis in schedule.get(block).iter_vars)]
    if len(sums) != 1:
        return None
    (block,) = sums
    held = schedule.get(block)
    if len(held.reads) != 2 or not _multiplies(held.body):
        return None
    if schedule.get_loops(block) and len(schedule.get_loops(block)) != len(held.iter_vars):
        return None
    axes = [axis.var for axis in held.iter_vars]
    used = [_axes_of(region, axes) for region in held.reads]
    spatial = [place for place, axis in enumerate(held.iter_vars) if not _is_summed(axis)]
    last = [_last_axis(region, axes) for region in held.reads]
    # The operand whose memory runs along an axis of its own is the one to load in vectors.
    rows = 1 if last[1] not in _only(spatial, used, 1) and last[0] in _only(spatial, used, 0) else 0
    m, n = _only(spatial, used, rows), _only(spatial, used, 1 - rows)
    last_summed = [axis.var for axis in held.iter_vars if _is_summed(axis)][-1]
    return Contraction(
        block=block,
        rows=rows,
        batch=tuple(axis for axis in spatial if axis not in m and axis not in n),
        m=m,
        n=n,
        k=tuple(place for place, axis in enumerate(held.iter_vars) if _is_summed(axis)),
        extents=tuple(int(axis.dom.extent) for axis in held.iter_vars),
        rows_follow_m=bool(m) and closer(held.reads[rows], axes[m[-1]], last_summed),
        columns_follow_n=last[1 - rows] in n,
        shared=_sharing(schedule, block),
        index_dtype=str(axes[0].ty.dtype),
    )


def _is_summed(axis: Any) -> bool:
    return bool(int(axis.iter_type) == tirx.IterVar.CommReduce)


def _multiplies(body: Any) -> bool:
    """Whether a block's statement is ``c = c + a · b``, give or take casts."""
    value = getattr(body, "value", None)
    if not isinstance(value, tirx.Add):
        return False
    return isinstance(_uncast(value.b), tirx.Mul)


def _uncast(value: Any) -> Any:
    while isinstance(value, tirx.Cast):
        value = value.value
    return value


def _axes_of(region: Any, axes: list[Any]) -> set[int]:
    return set().union(*(_axes_in(extent.min, axes) for extent in region.region))


def _axes_in(index: Any, axes: list[Any]) -> set[int]:
    found: set[int] = set()

    def variable(node: Any) -> None:
        found.update(place for place, axis in enumerate(axes) if node.same_as(axis))

    tvm_ffi.structural_walk(index, (tvm.ir.Var, variable))
    return found


def _sharing(schedule: Any, block: Any) -> frozenset[int]:
    """The axes of a block that do not keep an index of their own in its result, or in what is made of that."""
    held = schedule.get(block)
    axes = [axis.var for axis in held.iter_vars]
    alone = dict(enumerate(axes))  # each axis, and the variable of the block at hand that it is
    found = {place for place, axis in enumerate(held.iter_vars) if not _is_summed(axis)}
    while True:
        alone = {place: var for place, var in alone.items() if _has_an_index(held.writes[0], var)}
        consumers = schedule.get_consumers(block)
        if not consumers:
            return frozenset(found - set(alone))
        made, block = held.writes[0], consumers[0]
        held = schedule.get(block)
        read = next(region for region in held.reads if region.source.same_as(made.source))
        places = [(to.min, at.min) for to, at in zip(made.region, read.region, strict=True)]
        alone = {
            place: index
            for place, var in alone.items()
            for written, index in places
            if written.same_as(var) and any(index.same_as(axis.var) for axis in held.iter_vars)
        }


def _has_an_index(region: Any, var: Any) -> bool:
    """Whether one index of a region is a variable and nothing else, and no other index holds it."""
    used = [extent.min for extent in region.region if _axes_in(extent.min, [var])]
    return len(used) == 1 and bool(used[0].same_as(var))


def _only(spatial: list[int], used: list[set[int]], operand: int) -> tuple[int, ...]:
    return tuple(axis for axis in spatial if axis in used[operand] and axis not in used[1 - operand])


def _last_axis(region: Any, axes: list[Any]) -> int | None:
    """The axis that the last index of an operand is, if it is one."""
    last = region.region[-1].min
    return next((place for place, axis in enumerate(axes) if last.same_as(axis)), None)


def closer(region: Any, axis: Any, other: Any) -> bool:
    """Whether an access moves less far in memory along one axis than along another."""
    indices = [extent.min for extent in region.region]
    step, far = moves_by(region.source, indices, axis), moves_by(region.source, indices, other)
    return step is not None and (far is None or abs(step) < abs(far))


def index_axes(schedule: Any, block: Any, region: Any) -> tuple[int | None, ...]:
    """The axis that each index of a region is; None for one that is always zero."""
    axes = [axis.var for axis in schedule.get(block).iter_vars]
    return tuple(
        next((place for place, axis in enumerate(axes) if extent.min.same_as(axis)), None) for extent in region.region
    )

"""Kernels that sum over rows: what their blocks are, for the schedules of sums, norms and softmax.

A row is what the sums of a kernel run over: the last dimension of a layer norm or a softmax, a piece of a group. Such a
kernel holds one or more sums per row, arithmetic on their results, and perhaps a last sweep that writes every element.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx


@dataclass(frozen=True)
class Rows:
    """The blocks of a kernel that sums over rows, after everything per element was inlined.

    Attributes:
        inner: the sums and what is computed of them, in order; one place per row.
        last: the block that writes the result; of a kernel that is nothing but a sum, that sum.
        rank: how many loops of `last` run over rows.
        count: rows.
        width: elements of a row.
        contiguous: whether a row's elements lie next to each other in what the first sum reads.
        sweeps: whether `last` writes every element of a row, and not one per row.
    """

    inner: tuple[Any, ...]
    last: Any
    rank: int
    count: int
    width: int
    contiguous: bool
    sweeps: bool


def find_rows(schedule: Any) -> Rows | None:
    """The rows of a kernel, with the steps per element inlined; None if it is not of that kind."""
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    sums = [block for block in blocks if is_sum(schedule, block)]
    if not sums:
        return None
    spatial, summed = _extents(schedule, sums[0])
    count, width = math.prod(spatial), math.prod(summed)
    for block in blocks:
        per_row = math.prod(_extents(schedule, block)[0]) <= count and _follows_sums(schedule, block)
        if schedule.get_consumers(block) and not is_sum(schedule, block) and not per_row:
            schedule.compute_inline(block)
    *inner, last = schedule.get_child_blocks(schedule.get_sblock("root"))
    for block in inner:
        if _extents(schedule, block) not in ((spatial, summed), (spatial, [])) and is_sum(schedule, block):
            return None
    written, over = _extents(schedule, last)
    rank = _prefix(written, count)
    rest = math.prod(written[rank:] if rank is not None else [0])
    if rank is None or (over and over != summed) or rest not in (1, width):
        return None
    blocks = [*inner, last]
    if any(len(schedule.get_loops(block)) != len(schedule.get(block).iter_vars) for block in blocks):
        return None
    if any(math.prod(_extents(schedule, block)[0]) != count for block in inner):
        return None
    return Rows(tuple(inner), last, rank, count, width, _runs_along(schedule, sums[0]), not over and rest > 1)


def _follows_sums(schedule: Any, block: Any) -> bool:
    """Whether a block is computed of sums."""
    producers = schedule.get_producers(block)
    return any(is_sum(schedule, producer) or _follows_sums(schedule, producer) for producer in producers)


def _prefix(extents: list[int], count: int) -> int | None:
    """How many of the first extents make up a number of places."""
    return next((rank for rank in range(len(extents) + 1) if math.prod(extents[:rank]) == count), None)


def is_sum(schedule: Any, block: Any) -> bool:
    """Whether a block accumulates over something."""
    return any(int(axis.iter_type) == tirx.IterVar.CommReduce for axis in schedule.get(block).iter_vars)


def holds_booleans(schedule: Any, rows: Rows) -> bool:
    """Whether any operand is of booleans, of which Metal and OpenCL have no vectors in memory."""
    held = [schedule.get(block) for block in (*rows.inner, rows.last)]
    regions = [region for block in held for region in (*block.reads, *block.writes)]
    return any(str(region.source.dtype) == "bool" for region in regions)


def summed_loops(schedule: Any, block: Any) -> list[Any]:
    """The loops of a sum that it sums over; they are the last ones."""
    spatial = len(_extents(schedule, block)[0])
    return list(schedule.get_loops(block)[spatial - len(schedule.get(block).iter_vars) :])


def _extents(schedule: Any, block: Any) -> tuple[list[int], list[int]]:
    """The extents of a block's axes: those that are not summed over, then those that are."""
    axes = [
        (int(axis.iter_type) == tirx.IterVar.CommReduce, int(axis.dom.extent)) for axis in schedule.get(block).iter_vars
    ]
    return [extent for over, extent in axes if not over], [extent for over, extent in axes if over]


def _runs_along(schedule: Any, block: Any) -> bool:
    """Whether neighbours along the last summed axis are neighbours in the largest operand."""
    held = schedule.get(block)
    summed = [axis for axis in held.iter_vars if int(axis.iter_type) == tirx.IterVar.CommReduce]
    wide = [axis for axis in summed if int(axis.dom.extent) > 1] or summed
    largest = max(held.reads, key=lambda region: math.prod(int(extent) for extent in region.source.shape))
    return moves_by(largest.source, [extent.min for extent in largest.region], wide[-1].var) == 1


def moves_by(buffer: Any, indices: list[Any], axis: Any) -> int | None:
    """How many elements further an access goes in memory when an axis grows by one; None if that depends."""
    place: Any = tirx.const(0, "int64")
    for index, extent in zip(indices, buffer.shape, strict=True):
        place = place * int(extent) + index.astype("int64")
    ahead = tvm_ffi.structural_map(place, (tvm.ir.Var, lambda var: axis + 1 if var.same_as(axis) else var))
    step = tvm.sym.Analyzer().simplify(ahead - place)
    return int(step) if isinstance(step, tirx.IntImm) else None

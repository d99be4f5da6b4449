"""Contractions on Apple's matrix units: tiles of 8 × 8 matrices, operands through threadgroup memory, float32 sums.

For convolutions of any rank, linear layers and batched products that are large enough to fill the tiles; others are for
`register_tiles`.

     k →                   n →
   ┌──────┐            ┌────────┬────────┐     a threadgroup: 32 rows × 64 columns, 4 SIMD-groups
 m │ A    │  32 × 32   │ 16×32  │ 16×32  │     a SIMD-group:  2 × 4 matrices of sums
 ↓ │      │            ├────────┼────────┤     a step of k:   both operands' tiles to threadgroup memory (6 KiB of
   └──────┘            │ 16×32  │ 16×32  │                    halves), then 4 times 2 + 4 loads and 8 products
                       └────────┴────────┘

The whole of m, of n and of k are one axis each (an implicit GEMM): where in an image a row of A lies is a matter of the
copy to threadgroup memory, which also fills up with zeros. Copies go along what is contiguous: pixels of an image are
kept as columns, which the loads and stores of matrices turn. Sums go through threadgroup memory on their way out, so
that bias, activation and cast are applied by whole threads.

Expected: 8 KiB of sums + 6 KiB of operands, two threadgroups per core; 21 multiply-adds per element that is copied, 11
per element of the matrices loaded. A matrix of float sums takes two registers of a lane, 16 in all.

Source: the tiling of TVM's `MetalMatmul`, whose sums are of half precision and whose operand B is always transposed.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.s_tir.dlight.gpu.matmul import auto_inline_consumer_chain, auto_inline_producers

from penstock.backends.tvm.schedules.gpu import simdgroup_intrinsics as simdgroup
from penstock.backends.tvm.schedules.gpu.contraction import Contraction, closer, find_contraction, index_axes
from penstock.backends.tvm.schedules.gpu.device import device_of

_SIZE = simdgroup.SIZE
_ROWS, _COLUMNS, _DEPTH = 32, 64, 32
"""Of the tile of a threadgroup."""
_GROUPS = (2, 2)
"""SIMD-groups along rows and columns."""
_FILLED = 0.7
"""Of the places of all tiles, those that hold something; below, a thread for each place is better."""


class SimdgroupTiles(dlight.base.ScheduleRule):  # type: ignore[misc]
    """Products of 8 × 8 matrices, for contractions that fill the tiles."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        device = device_of(target)
        if not device.compute.matrix_units:
            return None
        schedule = s_tir.Schedule(func)
        found = find_contraction(schedule)
        if found is None or found.rows != 0:  # the product of matrices is written for rows in the first operand
            return None
        if not _is_float(schedule, found) or not _fills(found, device.compute.compute_units):
            return None
        _apply(schedule, found, device.limits.subgroup)
        return schedule


def _fills(found: Contraction, cores: int) -> bool:
    """Whether there is a tile for each core, most of the tiles' places are used, and all axes may be padded."""
    filled, tiles = 1.0, found.extent(found.batch)
    for axes, part in ((found.m, _ROWS), (found.n, _COLUMNS), (found.k, _DEPTH)):
        extent = found.extent(axes)
        parts = -(-extent // part)
        filled *= extent / (parts * part)
        tiles *= parts if axes != found.k else 1
        if extent % part and found.shared.intersection(axes):
            return False
    return filled >= _FILLED and tiles >= cores


def _is_float(schedule: Any, found: Contraction) -> bool:
    held = schedule.get(found.block)
    operands = {str(region.source.dtype) for region in held.reads}
    return len(operands) == 1 and operands <= {"float16", "float32"} and str(held.writes[0].source.dtype) == "float32"


def _apply(schedule: Any, found: Contraction, lanes: int) -> None:
    simdgroup.register_simdgroup()
    main = found.block
    dtype = str(schedule.get(main).reads[0].source.dtype)
    parts = (found.batch, found.m, found.n, found.k)
    variables = [axis.var for axis in schedule.get(main).iter_vars]
    write_along_m = closer(schedule.get(main).writes[0], variables[found.m[-1]], variables[found.n[-1]])
    for operand in (0, 1):
        schedule.reindex(main, ("read", operand))
    schedule.reindex(main, ("write", 0))
    for place, kept in ((("read", 0), (0, 1, 3)), (("read", 1), (0, 3, 2)), (("write", 0), (0, 1, 2))):
        regions = schedule.get(main).reads if place[0] == "read" else schedule.get(main).writes
        axes = index_axes(schedule, main, regions[place[1]])
        schedule.transform_layout(main, place, _fused(found, axes, [parts[part] for part in kept]))
    schedule.transform_block_layout(main, _fused(found, tuple(range(len(found.extents))), parts))
    schedule.pad_einsum(main, [1, _ROWS, _COLUMNS, _DEPTH])

    batch, i, j, k = schedule.get_loops(main)
    x, group_row, i0, i1 = schedule.split(i, [None, _GROUPS[0], _ROWS // _GROUPS[0] // _SIZE, _SIZE])
    y, group_column, j0, j1 = schedule.split(j, [None, _GROUPS[1], _COLUMNS // _GROUPS[1] // _SIZE, _SIZE])
    step, k0, k1 = schedule.split(k, [None, _DEPTH // _SIZE, _SIZE])
    schedule.reorder(batch, x, y, group_row, group_column, step, k0, i0, j0, i1, j1, k1)
    for loop, axis in ((x, "blockIdx.x"), (y, "blockIdx.y"), (batch, "blockIdx.z")):
        schedule.bind(loop, axis)
    schedule.bind(group_row, "threadIdx.y")
    schedule.bind(group_column, "threadIdx.z")

    turned = 0 if found.rows_follow_m else None
    matrices = []
    for operand in (0, 1):
        copy = schedule.cache_read(main, operand, "shared")
        if operand == turned:
            schedule.transform_layout(copy, ("write", 0), lambda b, m, k: (b, k, m))
        schedule.compute_at(copy, step, preserve_unit_loops=True)
        auto_inline_producers(schedule, copy)
        if operand == turned:
            schedule.reorder(*reversed(schedule.get_loops(copy)[-2:]))
        _share_among_threads(schedule, copy, lanes)
    for operand in (0, 1):
        matrix = schedule.cache_read(main, operand, "metal.simdgroup")
        if operand == turned:
            schedule.transform_layout(matrix, ("write", 0), lambda b, k, m: (b, m, k))
        schedule.compute_at(matrix, k0)
        matrices.append(matrix)
    stored = schedule.cache_write(main, 0, "metal.simdgroup")
    written = schedule.cache_write(stored, 0, "shared")
    if write_along_m:
        schedule.transform_layout(stored, ("write", 0), lambda b, m, n: (b, n, m))
    schedule.reverse_compute_at(stored, group_column, preserve_unit_loops=True)
    schedule.reverse_compute_at(written, y, preserve_unit_loops=True)
    filled = schedule.decompose_reduction(main, step)
    for operand, matrix in enumerate(matrices):
        _replace(schedule, matrix, simdgroup.load(dtype, turned=operand == turned))
    _replace(schedule, stored, simdgroup.store(turned=write_along_m))
    _replace(schedule, filled, simdgroup.FILL)
    schedule.tensorize(i1, simdgroup.multiply(dtype))
    auto_inline_consumer_chain(schedule, written)
    if write_along_m:
        schedule.reorder(*reversed(schedule.get_loops(written)[-2:]))
    _share_among_threads(schedule, written, lanes)


def _fused(found: Contraction, axes: tuple[int | None, ...], parts: Any) -> Any:
    """An index map that makes one axis of each part."""

    def fuse(*places: Any) -> list[Any]:
        at = {axis: place for axis, place in zip(axes, places, strict=True) if axis is not None}
        made = []
        for part in parts:
            one: Any = tirx.IntImm(found.index_dtype, 0)
            for axis in part:
                one = one * found.extents[axis] + at[axis]
            made.append(one)
        return made

    return tirx.IndexMap.from_func(fuse, ndim=len(axes), index_dtype=found.index_dtype)


def _share_among_threads(schedule: Any, block: Any, lanes: int) -> None:
    """Divide a copy of a tile among all threads of a threadgroup."""
    vector = 1 if _is_conditional(schedule.get(block)) else 4
    line = schedule.fuse(*schedule.get_loops(block)[-2:])
    _, z, y, x, lane = schedule.split(line, [None, _GROUPS[1], _GROUPS[0], lanes, vector])
    for loop, axis in ((z, "threadIdx.z"), (y, "threadIdx.y"), (x, "threadIdx.x")):
        schedule.bind(loop, axis)
    schedule.vectorize(lane)


def _is_conditional(block: Any) -> bool:
    """Whether some of what a block reads is zeros beyond an end, so that it has no vectors."""
    found: list[Any] = []

    def call(node: Any) -> None:
        if str(node.op.name).endswith("if_then_else"):
            found.append(node)

    tvm_ffi.structural_walk(block.body, (tvm.ir.Call, call))
    return bool(found)


def _replace(schedule: Any, block: Any, intrinsic: str) -> None:
    """Put an intrinsic in the place of a block's loops over matrices."""
    *_, i, j = schedule.get_loops(block)
    rows, row = schedule.split(i, [None, _SIZE])
    columns, column = schedule.split(j, [None, _SIZE])
    schedule.reorder(rows, columns, row, column)
    schedule.tensorize(row, intrinsic)

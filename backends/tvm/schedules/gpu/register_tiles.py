"""Contractions from registers: each thread keeps a tile of sums, and nothing is shared but the caches.

For convolutions of any rank, linear layers and batched products on GPUs whose local memory is ordinary memory (Mali) or
whose caches serve a wave just as well (Adreno), and on CPUs through PoCL, for which barriers are costly.

    k →                     n → (vectors of V)
  ┌───────────┐          ┌──────┬──────┬──────┐
m │ a         │  P rows  │ sums │      │      │   a thread:     P rows, T apart, × one vector of V columns
↓ │ a         │  T apart │ sums │      │      │   a work-group: P·T rows × V·C columns, T·C threads
  └───────────┘          └──────┴──────┴──────┘   a step of k:   P scalars of A, one vector of B, P·V multiply-adds

Neighbouring threads take neighbouring rows where those lie next to each other in A (pixels of a convolution), so that
a wave reads one line of A, and all its threads the same vector of B; else they take neighbouring vectors of B. Where A
runs along k (linear layers), a thread loads four places of k at once.

Expected: P·V = 32 sums keep a thread within the registers at which Adreno and Mali run at full occupancy; 2·P·V
operations per P + V elements loaded, all from the first-level cache but one P-th. Apple's GPUs take it for the shapes
that matrix units do not (`simdgroup`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.s_tir.dlight.gpu.matmul import auto_inline_consumer_chain, auto_inline_producers

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.gpu.contraction import Contraction, find_contraction, index_axes
from penstock.backends.tvm.schedules.gpu.device import device_of, most_lanes

_MOST_ROWS = 8
_DEPTH = 4
"""Places of k that a thread loads at once where A runs along k."""


@dataclass(frozen=True)
class Tile:
    """How a contraction is divided.

    Attributes:
        rows: of a thread, for each axis of m.
        row_threads: threads of a work-group, for each axis of m.
        lanes: columns of a thread, one vector.
        column_threads: threads of a work-group along n.
        depth: places of k per step.
    """

    rows: tuple[int, ...]
    row_threads: tuple[int, ...]
    lanes: int
    column_threads: int
    depth: int


class RegisterTiles(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A tile of sums per thread, for any contraction."""

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        schedule = s_tir.Schedule(func)
        found = find_contraction(schedule)
        if found is None:
            return None
        itemsize = tvm_ffi.dtype(str(schedule.get(found.block).reads[1 - found.rows].source.dtype)).itemsize
        _apply(schedule, found, without_padding(found, choose(found, device_of(target), itemsize)))
        return schedule


def choose(found: Contraction, device: Target, itemsize: int) -> Tile:
    """A tile for a contraction on a device.

    Args:
        itemsize: bytes of an element of B.
    """
    compute, n = device.compute, found.extent(found.n)
    extents = [found.extents[axis] for axis in found.m]
    lanes = best_part(n, most_lanes(device, itemsize), powers=True)
    rows = min(_MOST_ROWS, compute.sums // lanes)
    wanted = compute.compute_units * compute.threads
    while rows > 1 and found.extent(found.batch) * math.prod(extents) * n < wanted * rows * lanes:
        rows //= 2
    vectors = -(-n // lanes)
    if found.rows_follow_m:
        row_threads = _spread(extents, compute.threads // best_part(vectors, 4))
        column_threads = best_part(vectors, compute.threads // math.prod(row_threads))
    else:
        column_threads = best_part(vectors, 32)
        row_threads = _spread(extents, compute.threads // column_threads)
    left = [-(-extent // threads) for extent, threads in zip(extents, row_threads, strict=True)]
    # Rows of one thread lie along the axis before the last, so that those of neighbours stay next to each other.
    own = _spread([*left[:-1], 1], rows)
    own = (*own[:-1], best_part(left[-1], rows // math.prod(own))) if left else own
    depth = _DEPTH if not found.rows_follow_m and found.extents[found.k[-1]] % _DEPTH == 0 else 1
    return Tile(own, row_threads, lanes, column_threads, depth)


def best_part(extent: int, limit: int, *, powers: bool = False) -> int:
    """The size, within a limit, of the parts to divide an extent into: large, and without much of a rest.

    Args:
        powers: only powers of two.
    """

    def worth(size: int) -> float:
        return size * (extent / (-(-extent // size) * size)) ** 2

    sizes = [size for size in range(1, max(1, limit) + 1) if not powers or size & (size - 1) == 0]
    return max((size for size in sizes if size < 2 * extent), key=worth)


def _spread(extents: list[int], limit: int) -> tuple[int, ...]:
    """Parts of each extent whose product is within a limit, the last extents first."""
    parts = []
    for extent in reversed(extents):
        part = best_part(extent, limit)
        parts.append(part)
        limit //= part
    return tuple(reversed(parts))


def without_padding(found: Contraction, tile: Tile) -> Tile:
    """The tile with parts that divide those axes which cannot be padded."""
    rows, row_threads = list(tile.rows), list(tile.row_threads)
    for place, axis in enumerate(found.m):
        if axis in found.shared:
            rows[place] = math.gcd(found.extents[axis], rows[place])
            row_threads[place] = math.gcd(found.extents[axis] // rows[place], row_threads[place])
    lanes, column_threads = tile.lanes, tile.column_threads
    if found.n and found.n[-1] in found.shared:
        lanes = math.gcd(found.extents[found.n[-1]], lanes)
        column_threads = math.gcd(found.extents[found.n[-1]] // lanes, column_threads)
    return replace(tile, rows=tuple(rows), row_threads=tuple(row_threads), lanes=lanes, column_threads=column_threads)


def _apply(schedule: Any, found: Contraction, tile: Tile) -> None:
    main, columns_operand = found.block, 1 - found.rows
    for operand in (0, 1):
        schedule.reindex(main, ("read", operand))
    schedule.reindex(main, ("write", 0))
    factors = dict(zip(found.m, zip(tile.rows, tile.row_threads, strict=True), strict=True))
    sizes = [math.prod(factors.get(axis, (1,))) for axis in range(len(found.extents))]
    if found.n:
        sizes[found.n[-1]] = tile.lanes * tile.column_threads
    if any(extent % size for extent, size in zip(found.extents, sizes, strict=True)):
        schedule.pad_einsum(main, sizes)
    every = tuple(range(len(found.extents)))
    row_axes = index_axes(schedule, main, schedule.get(main).reads[found.rows])
    result_axes = index_axes(schedule, main, schedule.get(main).writes[0])
    schedule.transform_layout(main, ("read", found.rows), _divided(found, factors, row_axes))
    schedule.transform_layout(main, ("write", 0), _divided(found, factors, result_axes))
    schedule.transform_block_layout(main, _divided(found, factors, every))

    loops = iter(schedule.get_loops(main))
    of_axis = {axis: [next(loops) for _ in range(3 if axis in factors else 1)] for axis in every}
    batch = [of_axis[axis][0] for axis in found.batch]
    outer, own, threads = ([of_axis[axis][place] for axis in found.m] for place in range(3))
    columns = [of_axis[axis][0] for axis in found.n]
    *summed, step = [of_axis[axis][0] for axis in found.k]
    any_loop = summed[0] if summed else step
    schedule.reorder(*batch, *columns, *outer, *threads, *summed, step, *own)
    z = schedule.fuse(*batch) if batch else schedule.add_unit_loop(any_loop)
    blocks, column_thread, lane = schedule.split(
        schedule.fuse(*columns) if columns else schedule.add_unit_loop(any_loop),
        [None, tile.column_threads, tile.lanes],
    )
    x = schedule.fuse(*outer) if outer else schedule.add_unit_loop(any_loop)
    thread = schedule.fuse(*threads) if threads else schedule.add_unit_loop(any_loop)
    row = schedule.fuse(*own) if own else schedule.add_unit_loop(main)
    step, deep = schedule.split(step, [None, tile.depth])
    schedule.reorder(z, blocks, x, column_thread, thread, *summed, step, deep, row, lane)
    schedule.bind(x, "blockIdx.x")
    schedule.bind(blocks, "blockIdx.y")
    schedule.bind(z, "blockIdx.z")
    first, second = ("x", "y") if found.rows_follow_m else ("y", "x")
    schedule.bind(thread, f"threadIdx.{first}")
    schedule.bind(column_thread, f"threadIdx.{second}")
    if tile.lanes > 1:
        schedule.vectorize(lane)
    schedule.unroll(row)
    schedule.unroll(deep)
    _load(schedule, main, found.rows, step, tile.depth)
    _load(schedule, main, columns_operand, deep, tile.lanes if found.columns_follow_n else 1)
    written = schedule.cache_write(main, 0, "local")
    axes = len(schedule.get(written).iter_vars)
    schedule.reverse_compute_at(written, thread, preserve_unit_loops=True)
    auto_inline_consumer_chain(schedule, written)
    own_loops = schedule.fuse(*schedule.get_loops(written)[-axes:])
    _in_vectors(schedule, own_loops, 1 if found.rows_follow_m else tile.lanes)
    schedule.decompose_reduction(main, summed[0] if summed else step)


def _divided(found: Contraction, factors: dict[int, tuple[int, int]], axes: tuple[int | None, ...]) -> Any:
    """An index map that divides axes into (outer, own row, thread): rows of a thread lie as far apart as threads go."""

    def divide(*places: Any) -> list[Any]:
        none = tirx.IntImm(found.index_dtype, 0)
        made = []
        for axis, place in zip(axes, places, strict=True):
            if axis not in factors:
                made.append(place)
                continue
            rows, threads = factors[axis]
            own = place // threads % rows if rows > 1 else none
            made += [place // (rows * threads), own, place % threads if threads > 1 else none]
        return made

    return tirx.IndexMap.from_func(divide, ndim=len(axes), index_dtype=found.index_dtype)


def _load(schedule: Any, main: Any, operand: int, loop: Any, lanes: int) -> None:
    """Load what an operand's step needs into registers at a loop, with everything that makes it inlined."""
    block = schedule.cache_read(main, operand, "local")
    auto_inline_producers(schedule, block)
    axes = len(schedule.get(block).iter_vars)
    schedule.compute_at(block, loop, preserve_unit_loops=True)
    _in_vectors(schedule, schedule.fuse(*schedule.get_loops(block)[-axes:]), lanes)


def _in_vectors(schedule: Any, loop: Any, lanes: int) -> None:
    """A loop as unrolled vectors."""
    outer, inner = schedule.split(loop, [None, lanes])
    if lanes > 1:
        schedule.vectorize(inner)
    schedule.unroll(outer)

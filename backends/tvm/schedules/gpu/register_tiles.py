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
runs along k (linear layers), a thread loads four places of k at once. On a CPU no two threads share a load: there the
rows of a thread lie side by side.

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
from tvm.s_tir.dlight.gpu.matmul import auto_inline_consumer_chain, auto_inline_producers

from penstock.backends.quality import REUSE
from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.gpu.contraction import Contraction, find_contraction, index_axes
from penstock.backends.tvm.schedules.gpu.device import device_of, most_lanes
from penstock.backends.tvm.schedules.tunable import Choice, TunableRule

_DEPTH = 4
"""Places of k that a thread loads at once where A runs along k."""
_CHOICES = 16
"""Tiles that a search may try."""


@dataclass(frozen=True)
class Tile:
    """How a contraction is divided.

    Attributes:
        rows: of a thread, for each axis of m.
        row_threads: threads of a work-group, for each axis of m.
        lanes: columns of a thread, one vector.
        column_threads: threads of a work-group along n.
        batch_threads: threads of a work-group along the batch, for products too small to fill a wave.
        depth: places of k per step.
    """

    rows: tuple[int, ...]
    row_threads: tuple[int, ...]
    lanes: int
    column_threads: int
    batch_threads: int
    depth: int

    def named(self) -> Choice:
        """The numbers as a choice."""
        rows = {f"rows{axis}": size for axis, size in enumerate(self.rows)}
        threads = {f"row_threads{axis}": size for axis, size in enumerate(self.row_threads)}
        return {
            **rows,
            **threads,
            "lanes": self.lanes,
            "column_threads": self.column_threads,
            "batch_threads": self.batch_threads,
            "depth": self.depth,
        }


class RegisterTiles(TunableRule):
    """A tile of sums per thread, for any contraction. Its numbers are those of `Tile`."""

    name = "register-tiles"

    def choices(self, function: Any, target: Any) -> tuple[Choice, ...]:
        schedule = s_tir.Schedule(function)
        found = find_contraction(schedule)
        if found is None:
            return ()
        return tuple(tile.named() for tile in _ranked(schedule, found, target)[:_CHOICES])

    def scheduled(self, function: Any, target: Any, choice: Choice) -> Any:
        schedule = s_tir.Schedule(function)
        found = find_contraction(schedule)
        if found is None:
            return None
        tile = next((tile for tile in _ranked(schedule, found, target) if tile.named() == choice), None)
        if tile is None:
            return None
        _apply(schedule, found, tile, _reads_alone(device_of(target)))
        return schedule


def _ranked(schedule: Any, found: Contraction, target: Any) -> list[Tile]:
    columns = schedule.get(found.block).reads[1 - found.rows].source
    return ranked(found, device_of(target), tvm_ffi.dtype(str(columns.dtype)).itemsize)


def choose(found: Contraction, device: Target, itemsize: int) -> Tile:
    """The tile with most reuse that still gives every compute unit a work-group of full waves.

    Args:
        itemsize: bytes of an element of B.
    """
    return ranked(found, device, itemsize)[0]


def ranked(found: Contraction, device: Target, itemsize: int) -> list[Tile]:
    """The tiles that a device can take, what is expected to be fastest first."""
    compute, n = device.compute, found.extent(found.n)
    extents = [found.extents[axis] for axis in found.m]
    lanes = _lanes(found, most_lanes(device, itemsize))
    depth = _DEPTH if not found.rows_follow_m and found.extents[found.k[-1]] % _DEPTH == 0 else 1
    vectors = -(-n // lanes)
    tiles = {}
    for most_rows in (8, 4, 2, 1):
        if most_rows * lanes > compute.sums:
            continue
        rows = _rows(extents, most_rows, _reads_alone(device))
        left = [-(-extent // own) for extent, own in zip(extents, rows, strict=True)]
        for columns in _divisors(vectors, 2 * compute.threads if found.rows_follow_m else compute.threads):
            for row_threads in sorted({_spread(left, 2**power) for power in range(8)}):
                room = max(1, compute.threads // (columns * math.prod(row_threads)))
                batch = _largest_divisor(found.extent(found.batch), room)
                tile = without_padding(found, Tile(rows, row_threads, lanes, columns, batch, depth))
                tiles[tile] = _worth(found, tile, device)
    return sorted(tiles, key=lambda tile: -tiles[tile])


def _worth(found: Contraction, tile: Tile, device: Target) -> float:
    """Reuse, less what is lost to idle lanes, to rows beyond the end and to idle compute units."""
    compute, wave = device.compute, device.limits.subgroup
    own = math.prod(tile.rows)
    threads = math.prod(tile.row_threads) * tile.column_threads * tile.batch_threads
    if threads > 2 * compute.threads or threads > device.limits.max_threads:
        return 0.0
    reuse = own * tile.lanes / (own + tile.lanes)
    if 2 * reuse < REUSE:
        reuse *= 0.8
    full = threads / (-(-threads // wave) * wave)
    needed = covered = 1
    for axis, rows, row_threads in zip(found.m, tile.rows, tile.row_threads, strict=True):
        extent, part = found.extents[axis], rows * row_threads
        needed, covered = needed * extent, covered * -(-extent // part) * part
    everything = found.extent(found.batch) * needed * found.extent(found.n) / (own * tile.lanes)
    busy = min(1.0, everything / (compute.compute_units * compute.threads)) ** 0.5
    busy *= min(1.0, everything / threads / compute.compute_units) ** 2
    large = min(1.0, threads / compute.threads) ** 0.25
    # What a work-group reads from beyond its own caches falls with the smaller side of its tile.
    high, across = own * math.prod(tile.row_threads), tile.lanes * tile.column_threads
    shared = (high * across / (high + across)) ** 0.25
    # A wave that walks along the columns of a convolution's weights reads them in order, and so does one along pixels.
    narrow = 0.9 if found.rows_follow_m and tile.row_threads[-1] < min(8, found.extents[found.m[-1]]) else 1.0
    return float(reuse * full * (needed / covered) * busy * large * shared * narrow)


def _lanes(found: Contraction, limit: int) -> int:
    """Columns of a vector: they should divide n, since a vector beyond the end is loaded piece by piece."""
    n = found.extent(found.n)
    dividing = max(size for size in (1, 2, 4, 8) if size <= limit and n % size == 0)
    if dividing >= min(4, n) or not found.rows_follow_m:
        return dividing
    return min(4, limit)


def _reads_alone(device: Target) -> bool:
    """Whether a thread shares no load with its neighbours, as on a CPU: then its own rows lie side by side."""
    return device.limits.subgroup == 1


def _rows(extents: list[int], limit: int, alone: bool) -> tuple[int, ...]:
    """Rows of a thread along each axis: the axis before the last first, so that neighbours stay next to each other.

    Args:
        alone: a thread's rows lie side by side instead.
    """
    if not extents:
        return ()
    if alone:
        return _spread(extents, limit)
    front = _spread(extents[:-1], limit)
    return (*front, best_part(extents[-1], limit // math.prod(front)))


def _divisors(extent: int, limit: int) -> list[int]:
    return [size for size in range(1, min(extent, limit) + 1) if extent % size == 0]


def _largest_divisor(extent: int, limit: int) -> int:
    return _divisors(extent, limit)[-1]


def best_part(extent: int, limit: int) -> int:
    """The size, within a limit, of the parts to divide an extent into: large, and without much of a rest."""

    def worth(size: int) -> float:
        return size * (extent / (-(-extent // size) * size)) ** 2

    return max(range(1, max(1, min(limit, 2 * extent - 1)) + 1), key=worth)


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


def _apply(schedule: Any, found: Contraction, tile: Tile, alone: bool) -> None:
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
    schedule.transform_layout(main, ("read", found.rows), _divided(found, factors, row_axes, alone))
    schedule.transform_layout(main, ("write", 0), _divided(found, factors, result_axes, alone, last=found.n[-1:]))
    schedule.transform_block_layout(main, _divided(found, factors, every, alone))

    loops = iter(schedule.get_loops(main))
    of_axis = {axis: [next(loops) for _ in range(3 if axis in factors else 1)] for axis in every}
    batch = [of_axis[axis][0] for axis in found.batch]
    outer, own, threads = ([of_axis[axis][place] for axis in found.m] for place in range(3))
    columns = [of_axis[axis][0] for axis in found.n]
    *summed, step = [of_axis[axis][0] for axis in found.k]
    any_loop = summed[0] if summed else step
    schedule.reorder(*batch, *columns, *outer, *threads, *summed, step, *own)
    z, batch_thread = schedule.split(
        schedule.fuse(*batch) if batch else schedule.add_unit_loop(any_loop), [None, tile.batch_threads]
    )
    blocks, column_thread, lane = schedule.split(
        schedule.fuse(*columns) if columns else schedule.add_unit_loop(any_loop),
        [None, tile.column_threads, tile.lanes],
    )
    x = schedule.fuse(*outer) if outer else schedule.add_unit_loop(any_loop)
    thread = schedule.fuse(*threads) if threads else schedule.add_unit_loop(any_loop)
    row = schedule.fuse(*own) if own else schedule.add_unit_loop(main)
    step, deep = schedule.split(step, [None, tile.depth])
    schedule.reorder(z, blocks, x, batch_thread, column_thread, thread, *summed, step, deep, row, lane)
    schedule.bind(x, "blockIdx.x")
    schedule.bind(blocks, "blockIdx.y")
    schedule.bind(z, "blockIdx.z")
    schedule.bind(batch_thread, "threadIdx.z")
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


def _divided(
    found: Contraction,
    factors: dict[int, tuple[int, int]],
    axes: tuple[int | None, ...],
    alone: bool,
    last: tuple[int, ...] = (),
) -> Any:
    """An index map that divides axes into (outer, own row, thread): rows of a thread lie as far apart as threads go.

    Args:
        alone: they lie side by side instead.
        last: axes that come after all others, so that the sums of a vector lie side by side.
    """

    def divide(*places: Any) -> list[Any]:
        none = tirx.IntImm(found.index_dtype, 0)
        made = []
        for axis, place in sorted(zip(axes, places, strict=True), key=lambda pair: pair[0] in last):
            if axis not in factors:
                made.append(place)
                continue
            rows, threads = factors[axis]
            own = place // (1 if alone else threads) % rows if rows > 1 else none
            thread = place // (rows if alone else 1) % threads if threads > 1 else none
            made += [place // (rows * threads), own, thread]
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

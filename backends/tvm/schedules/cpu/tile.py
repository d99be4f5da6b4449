"""The register tile: what every matrix product and convolution on a CPU is made of.

A tile is some rows of the left operand by a few vectors of columns of the right one. Its sums stay in vector registers
for the whole depth; one step along the depth loads each vector of the right operand once, and each number of the left
one once, into all lanes of a register::

               right[k]  ▐ v0 v0 v0 v0 ▐ v1 v1 v1 v1 ▐       2 loads
    left[0, k] ─ · · · ─ ▐ sum 0,0     ▐ sum 0,1     ▐
    left[1, k] ─ · · · ─ ▐ sum 1,0     ▐ sum 1,1     ▐       rows loads, rows × 2 multiply-adds
    left[2, k] ─ · · · ─ ▐ sum 2,0     ▐ sum 2,1     ▐

With r rows and v vectors a step takes r·v multiply-adds for r + v loads. A core that starts two of each per cycle, and
needs four cycles for a multiply-add, spends max(r·v / 2, (r + v) / 2, 4) cycles on it: with 14 × 2 or 8 × 3 tiles it is
the arithmetic that limits. `best_tile` counts this for the extents at hand, ragged edges included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.script import tirx as T
from tvm.tirx.script.builder import ir as build

Expr = Any
"""A TIR expression."""

_LATENCY = 4
"""Cycles from the start of a multiply-add to its result."""
_VECTORS = 3
"""Vectors of columns of a tile, at most."""


@dataclass(frozen=True)
class Registers:
    """The vector registers of a CPU.

    Attributes:
        lanes: float32 numbers that one holds.
        count: how many there are.
    """

    lanes: int
    count: int

    @classmethod
    def of(cls, target: tvm.target.Target) -> Registers:
        """Those that code for a target may use."""
        has = tvm.get_global_func("target.target_has_feature")
        if has("avx512f", target):
            return cls(16, 32)
        if has("avx", target):
            return cls(8, 16)
        triple = str(target.attrs.get("mtriple", ""))
        return cls(4, 32 if triple.startswith(("aarch64", "arm64")) else 16)

    @classmethod
    def current(cls) -> Registers | None:
        """Those of the target at hand, None if there is none."""
        target = tvm.target.Target.current(allow_none=True)
        return None if target is None else cls.of(target)


@dataclass(frozen=True)
class Tile:
    """A register tile.

    Attributes:
        rows: of the left operand.
        vectors: the lanes of each vector of columns; the last may be shorter than a register.
    """

    rows: int
    vectors: tuple[int, ...]

    @property
    def columns(self) -> int:
        """All lanes together."""
        return sum(self.vectors)

    def starts(self) -> Iterator[tuple[int, int, int]]:
        """Index, first column and lanes of each vector."""
        at = 0
        for index, lanes in enumerate(self.vectors):
            yield index, at, lanes
            at += lanes


def vectors_of(columns: int, lanes: int) -> tuple[int, ...]:
    """Some columns as full vectors and what is left."""
    rest = columns % lanes
    return (lanes,) * (columns // lanes) + ((rest,) if rest else ())


def best_tile(rows: int, columns: int, registers: Registers, vectors: int | None = None) -> Tile:
    """The tile that takes the fewest cycles over so many rows and columns.

    Args:
        vectors: how many vectors of columns it must have; None for any number.
    """
    shapes = [
        (r, v)
        for v in ([vectors] if vectors else range(1, _VECTORS + 1))
        for r in range(1, min(rows, registers.count) + 1)
        if r * v + v + 1 <= registers.count or r == 1
    ]
    r, v = min(shapes, key=lambda shape: (tile_cycles(rows, columns, shape, registers), -shape[0]))
    return Tile(r, (registers.lanes,) * v)


def tile_cycles(rows: int, columns: int, shape: tuple[int, int], registers: Registers) -> float:
    """Cycles per step along the depth for all tiles of `shape` (rows, vectors) over so many rows and columns."""
    r, v = shape
    tiles = math.ceil(rows / r) * math.ceil(columns / (v * registers.lanes))
    return tiles * max(r * v / 2, (r + v) / 2, _LATENCY)


def ramp(start: Expr, lanes: int) -> Expr:
    """Consecutive indices as one vector."""
    return T.Ramp(index(start), T.int64(1), lanes) if lanes > 1 else index(start)


def index(value: Expr) -> Expr:
    """A Python number as an index; an expression as it is."""
    return T.int64(value) if isinstance(value, int) else value


def wide(value: Expr, lanes: int = 1) -> Expr:
    """A number or a vector in float32."""
    dtype = "float32" if lanes == 1 else f"float32x{lanes}"
    return value if str(value.ty.dtype) == dtype else T.Cast(dtype, value)


def flat(position: Sequence[Any], shape: Sequence[int]) -> Any:
    """Where an element of a shape lies in row-major order."""
    total: Any = 0
    for at, extent in zip(position, shape, strict=True):
        total = total * extent + at
    return total


def unravel(position: Expr, shape: Sequence[int]) -> list[Expr]:
    """Where an element, counted in row-major order, lies in a shape."""
    indices: list[Expr] = []
    for extent in reversed(shape[1:]):
        indices.insert(0, position % extent)
        position = position // extent
    return [position, *indices] if shape else []


def spread(value: Expr, lanes: int) -> Expr:
    """A number in all lanes of a vector."""
    return T.Broadcast(value, lanes) if lanes > 1 else value


@contextmanager
def loops(extents: Sequence[int], unrolled: bool = False) -> Iterator[list[Expr]]:
    """Nested loops; those of one iteration are none.

    Args:
        unrolled: whether their code is to be written out, which registers ask for: a register has no index.
    """
    kind = build.unroll if unrolled else build.serial
    with ExitStack() as stack:
        yield [
            stack.enter_context(kind(T.int64(0), T.int64(extent))) if extent > 1 else T.int64(0) for extent in extents
        ]


def in_vectors(count: int, lanes: int, vector: Callable[[Expr, int], None]) -> None:
    """Call ``vector(first, lanes)`` for all of a row: full vectors in a loop, then what is left."""
    if count >= lanes:
        with loops([count // lanes]) as (i,):
            vector(i * lanes, lanes)
    if count % lanes > 0:
        vector(index(count - count % lanes), vectors_of(count, lanes)[-1])


def multiply(
    tile: Tile,
    serial: Sequence[int],
    unrolled: Sequence[int],
    left: Callable[..., Expr],
    right: Callable[..., Expr],
    store: Callable[[Expr, int, int, Expr], None],
) -> None:
    """Emit one tile: sums over all steps, then a store of each vector.

    Args:
        serial: extents of the loops over the depth, the outermost first.
        unrolled: extents of those that are written out inside.
        left: ``left(row, *step)``, a float32 number.
        right: ``right(first column, lanes, *step)``, a float32 vector.
        store: ``store(row, first column, lanes, vector)`` emits what becomes of a vector of sums.
    """
    with build.sblock("tile"):
        build.reads([])
        build.writes([])
        # A buffer per vector: what is no larger than that lies on the stack, and so in registers.
        sums = [build.sblock_alloc_buffer((tile.rows, lanes), "float32") for lanes in tile.vectors]
        with loops([tile.rows], unrolled=True) as (row,):
            for v, _, lanes in tile.starts():
                build.buffer_store(sums[v], spread(T.float32(0), lanes), [row, ramp(0, lanes)])
        with (
            loops(serial) as outer,
            loops(unrolled, unrolled=True) as inner,
            loops([tile.rows], unrolled=True) as (row,),
        ):
            step = [*outer, *inner]
            for v, at, lanes in tile.starts():
                here = [row, ramp(0, lanes)]
                more = spread(left(row, *step), lanes) * right(at, lanes, *step)
                build.buffer_store(sums[v], sums[v][*here] + more, here)
        with loops([tile.rows], unrolled=True) as (row,):
            for v, at, lanes in tile.starts():
                store(row, at, lanes, sums[v][row, ramp(0, lanes)])

"""Matrix products on a CPU: linear layers with packed weights, and products of two computed matrices.

Rows of the left operand are read as they lie, number by number; columns of the right one come in panels of two
vectors, which a packed weight already has, and which are packed from anything else as the kernel goes::

              right   panel 0    panel 1   …        a panel: [depth][columns], read front to back
                    ┌─────────┬─────────┬──
     left   rows    │  tile   │  tile   │           tile: 14 × 32 with AVX-512, 6 × 16 with AVX2, 14 × 8 with NEON
          ┄┄┄┄┄┄┄┄┄ ├─────────┼─────────┼──
     a    rows      │  tile   │  tile   │           a task takes a chunk of rows (about 128) and some panels:
     chunk rows     │  tile   │  tile   │           each panel stays in the cache while the rows pass by

Arithmetic: 2 · rows · depth · columns. Traffic: the right operand once per chunk of rows, the left one once per group
of panels from the second-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm.script import tirx as T
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.contraction import Contraction, contraction
from penstock.backends.tvm.schedules.cpu.kernel import built, cores, tasks
from penstock.backends.tvm.schedules.cpu.tile import (
    Expr,
    Registers,
    Tile,
    best_tile,
    index,
    loops,
    multiply,
    ramp,
    unravel,
    vectors_of,
    wide,
)
from penstock.backends.tvm.schedules.tunable import Choice, TunableRule

MATMUL = "matmul"
"""The kind of contraction. Annotations: ``batch``, how many leading dimensions of the result the right operand has too;
``right``, how it lies: ``panels`` (packed), ``rows`` ([…, depth, columns]) or ``columns`` ([…, columns, depth])."""

PANEL_VECTORS = 2
_CHUNK_ROWS = 128


class Matmul(TunableRule):
    """Register tiles over packed panels, for contractions marked `MATMUL`.

    Its numbers: the rows of a tile, and in how many chunks of rows and groups of panels tasks take the work.
    """

    name = "matmul"

    def choices(self, function: Any, target: Any) -> tuple[Choice, ...]:
        found = contraction(function, MATMUL) if target.kind.name == "llvm" else None
        return () if found is None else _Kernel(found, Registers.of(target)).choices()

    def scheduled(self, function: Any, target: Any, choice: Choice) -> Any:
        found = contraction(function, MATMUL)
        return None if found is None else _Kernel(found, Registers.of(target), choice).scheduled()


class _Kernel:
    def __init__(self, whole: Contraction, registers: Registers, choice: Choice | None = None) -> None:
        self._whole = whole
        self._lanes = registers.lanes
        self._left, self._right = whole.operands
        self._layout = str(whole.annotation("right"))
        batch = int(whole.annotation("batch"))
        *lead, self._columns = whole.shape
        self._batch, self._rows_shape = tuple(lead[:batch]), tuple(lead[batch:])
        self._rows = math.prod(self._rows_shape)
        self._depth = int(self._left.shape[-1])
        self._panel = PANEL_VECTORS * registers.lanes
        self._panels = math.ceil(self._columns / self._panel)
        self._work = math.prod(whole.shape) * self._depth
        rows = best_tile(self._rows, self._columns, registers, PANEL_VECTORS).rows
        own = self._choice(rows, _CHUNK_ROWS)
        chosen = own if choice is None else choice
        self._own = own
        self._tile_rows, self._chunks, self._groups = (chosen[name] for name in ("tile_rows", "chunks", "groups"))
        self._blocks = math.ceil(self._rows / self._tile_rows)
        self._packs = self._layout == "columns" or (self._layout == "rows" and self._rows > 4 * self._tile_rows)

    def scheduled(self) -> Any:
        return built(self._whole.function, self._emit)

    def choices(self) -> tuple[Choice, ...]:
        """What is worth a try, the rule's own choice first."""
        rows = sorted({max(1, self._own["tile_rows"] - less) for less in (0, 2, 4, 6)})
        others = [
            self._choice(tile_rows, chunk_rows, spread)
            for tile_rows in rows
            for chunk_rows in (_CHUNK_ROWS, 2 * _CHUNK_ROWS, _CHUNK_ROWS // 2, _CHUNK_ROWS // 4)
            for spread in (2, 1, 4)
        ]
        return (self._own, *(choice for at, choice in enumerate(others) if choice not in [self._own, *others[:at]]))

    def _choice(self, tile_rows: int, chunk_rows: int, spread: int = 2) -> Choice:
        """Numbers for tasks of about `chunk_rows` rows, `spread` of them for each core."""
        chunks = math.ceil(math.ceil(self._rows / tile_rows) / max(1, chunk_rows // tile_rows))
        wanted = math.ceil(spread * cores(self._work) / (math.prod(self._batch) * chunks))
        return {"tile_rows": tile_rows, "chunks": chunks, "groups": min(self._panels, max(1, wanted))}

    def _emit(self) -> None:
        batch = math.prod(self._batch)
        with tasks(batch * self._chunks * self._groups, self._work) as task, build.sblock("task"):
            build.reads([])
            build.writes([])
            result = build.sblock_alloc_buffer((self._tile_rows, self._panel), "float32")
            packed = build.sblock_alloc_buffer((self._depth, self._panel), "float32") if self._packs else None
            of_batch, chunk = task // (self._chunks * self._groups), task // self._groups % self._chunks
            group = task % self._groups
            per_group, per_chunk = math.ceil(self._panels / self._groups), math.ceil(self._blocks / self._chunks)
            with loops([per_group]) as (j,):
                panel = group * per_group + j
                full = self._columns // self._panel
                rest = self._columns % self._panel
                for columns, holds in ((self._panel, panel < full), (rest, panel == full)):
                    if columns == 0 or (columns == self._panel and full == 0):
                        continue
                    with build.If(holds), build.Then():
                        tile = Tile(self._tile_rows, vectors_of(columns, self._lanes))
                        batch_at = unravel(of_batch, self._batch)
                        if packed is not None:
                            self._pack(packed, batch_at, panel * self._panel, columns)
                        with loops([per_chunk]) as (b,):
                            block = chunk * per_chunk + b
                            with build.If(block < self._blocks), build.Then():
                                self._tile(tile, batch_at, panel, block * self._tile_rows, result, packed)

    def _pack(self, packed: Any, batch: Sequence[Expr], first: Expr, columns: int) -> None:
        """Bring one panel of the right operand into the form of packed weights."""
        if self._layout == "rows":
            with loops([self._depth]) as (k,):
                for at, lanes in _vectors(columns, self._lanes):
                    place = (*self._right_lead(batch), k, ramp(first + at, lanes))
                    build.buffer_store(packed, wide(self._right[place], lanes), [k, ramp(at, lanes)])
        else:
            with loops([columns, self._depth]) as (n, k):
                build.buffer_store(packed, wide(self._right[(*self._right_lead(batch), first + n, k)]), [k, n])

    def _right_lead(self, batch: Sequence[Expr]) -> list[Expr]:
        lead = [int(extent) for extent in self._right.shape[:-2]]
        trailing = batch[len(batch) - len(lead) :] if lead else []
        return [index(0) if extent == 1 else at for extent, at in zip(lead, trailing, strict=True)]

    def _left_at(self, batch: Sequence[Expr], row: Expr, k: Expr) -> Expr:
        lead = [int(extent) for extent in self._left.shape[:-1]]
        position = [*batch, *unravel(row, self._rows_shape)]
        held = zip(lead, position[len(position) - len(lead) :], strict=True)
        return wide(self._left[(*(index(0) if extent == 1 else at for extent, at in held), k)])

    def _tile(self, tile: Tile, batch: Sequence[Expr], panel: Expr, first_row: Expr, result: Any, packed: Any) -> None:
        ragged = self._rows % self._tile_rows != 0

        def left(row: Expr, k: Expr) -> Expr:
            # Past the last row the tile reads that one again; what comes of it is not stored.
            at = T.min(first_row + row, index(self._rows - 1)) if ragged else first_row + row
            return self._left_at(batch, at, k)

        def right(at: int, lanes: int, k: Expr) -> Expr:
            if packed is not None:
                return packed[k, ramp(at, lanes)]
            if self._layout == "panels":
                start = panel * (self._panel * self._depth) + k * tile.columns + at
                return wide(self._right[ramp(start, lanes)], lanes)
            return wide(self._right[(*self._right_lead(batch), k, ramp(panel * self._panel + at, lanes))], lanes)

        def store(row: Expr, at: int, lanes: int, vector: Expr) -> None:
            build.buffer_store(result, vector, [row, ramp(at, lanes)])

        multiply(tile, [self._depth], [], left, right, store)
        with loops([tile.rows]) as (row,), build.If(first_row + row < self._rows), build.Then():
            for _, at, lanes in tile.starts():
                with self._whole.lanes(lanes) as lane:
                    position = [*batch, *unravel(first_row + row, self._rows_shape)]
                    column = panel * self._panel + at + lane
                    self._whole.finish(result[row, at + lane], [*position, column])


def _vectors(columns: int, lanes: int) -> list[tuple[int, int]]:
    return [(at, width) for _, at, width in Tile(1, vectors_of(columns, lanes)).starts()]

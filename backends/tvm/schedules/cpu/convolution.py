"""Convolutions on a CPU, in one, two or three dimensions, grouped or not: direct, over a padded slab of the input.

A task takes a block of output positions. It first copies what they read, zeros around it included, into a scratch slab,
one plane per channel, whose rows follow each other without gaps. There, all that a tap of the kernel does is shift:
output position p reads slab position p + shift, whatever p. So a tile runs over positions as if they lay in one line,
row after row; what it computes between the end of one row and the start of the next is not stored::

    slab of a channel (3 × 3 kernel, padding 1)      positions in one line, 48 a tile
      0 0 0 0 0                                        p0 … p3 ·  p4 … p7 ·  p8 …
      0 x x x x │ one column of zeros serves           └── row ─┘ │
      0 x x x x │ the end of a row and the             computed, not stored
      0 0 0 0 0   start of the next

    tile: 8 output channels × 48 positions (AVX-512). One step, a channel and a tap: 3 vectors of the slab, 8 weights.

Arithmetic: 2 · positions · out channels · in channels / groups · taps, and some percent for what is not stored.
Traffic: the input once per task (and again what neighbouring tasks share), then the slab from the second-level cache
once per 8 output channels. Weights are read as they lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.script import tirx as T
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.contraction import Contraction, contraction
from penstock.backends.tvm.schedules.cpu.kernel import built, cores, tasks
from penstock.backends.tvm.schedules.cpu.slab import Dim, Slab
from penstock.backends.tvm.schedules.cpu.tile import (
    Expr,
    Registers,
    best_tile,
    flat,
    in_vectors,
    index,
    loops,
    multiply,
    ramp,
    tile_cycles,
    unravel,
    wide,
)
from penstock.backends.tvm.schedules.tunable import Choice, TunableRule

CONVOLUTION = "convolution"
"""The kind of contraction. Annotations: ``stride``, ``padding`` and ``dilation`` per dimension, ``groups``."""

_SLAB_BYTES = 2**19
"""What a slab should not exceed: half of a small second-level cache, or a quarter of a usual one."""
_WRITTEN_OUT_TAPS = 9
_CHOICES = 16
"""Ways to cut the work that a search may try."""
_COPY_CYCLES = 0.25
"""Cycles to bring one number into a slab."""


class Convolution(TunableRule):
    """Register tiles over padded slabs, for contractions marked `CONVOLUTION`.

    Its numbers: the block of images and positions that a task takes, and the parts that the output channels make.
    """

    name = "convolution"

    def choices(self, function: Any, target: Any) -> tuple[Choice, ...]:
        found = contraction(function, CONVOLUTION) if target.kind.name == "llvm" else None
        return () if found is None else _Kernel(found, Registers.of(target)).choices[:_CHOICES]

    def scheduled(self, function: Any, target: Any, choice: Choice) -> Any:
        found = contraction(function, CONVOLUTION)
        return None if found is None else _Kernel(found, Registers.of(target), choice).scheduled()


class _Kernel:
    """One convolution. Tasks take a block of positions and a part of the output channels, or of the groups.

    Attributes:
        choices: how the work may be cut, what is expected to be fastest first.
    """

    def __init__(self, whole: Contraction, registers: Registers, choice: Choice | None = None) -> None:
        self._whole = whole
        self._registers = registers
        self._input, self._weight = whole.operands
        self._batch, outs, *space = whole.shape
        self._groups = int(whole.annotation("groups"))
        self._outs = outs // self._groups  # of a group, as are the following
        self._ins, *self._taps = (int(extent) for extent in self._weight.shape[1:])
        extents = [int(extent) for extent in self._input.shape[2:]]
        settings = (whole.annotation(name) for name in ("stride", "padding", "dilation"))
        self._dims = tuple(Dim(*numbers) for numbers in zip(extents, space, self._taps, *settings, strict=True))
        self._work = math.prod(whole.shape) * self._ins * math.prod(self._taps)
        cuts = sorted(self._candidates(), key=lambda cut: self._cycles(*cut))
        self.choices = tuple(_named(*cut) for cut in cuts)
        self._slab, self._parts = cuts[0 if choice is None else self.choices.index(choice)]
        self._tile = best_tile(self._outs, self._slab.line, registers)
        self._tiles = math.ceil(self._slab.line / self._tile.columns)

    def scheduled(self) -> Any:
        """The schedule."""
        return built(self._whole.function, self._emit)

    def _candidates(self) -> list[tuple[Slab, int]]:
        """Slabs and numbers of parts that are worth a thought."""
        space = tuple(dim.out for dim in self._dims)
        cuts = [(images, space) for images in _sizes(self._batch)]
        for position, extent in enumerate(space[:-1]):
            cuts += [(1, (*[1] * position, part, *space[position + 1 :])) for part in _sizes(extent)[1:]]
        slabs = [Slab(self._dims, *cut, self._ins) for cut in cuts]
        slabs = [slab for slab in slabs if slab.bytes <= _SLAB_BYTES] or slabs[-1:]
        most = self._groups if self._groups > 1 else math.ceil(self._outs / 8)
        return [(slab, parts) for slab in slabs for parts in sorted({1, 2, 4, 8, most}) if parts <= most]

    def _cycles(self, slab: Slab, parts: int) -> float:
        """Cycles until the last core is done."""
        outs = self._outs if self._groups > 1 else math.ceil(self._outs / parts)
        shape = best_tile(outs, slab.line, self._registers)
        step = tile_cycles(outs, slab.line, (shape.rows, len(shape.vectors)), self._registers)
        arithmetic = step * self._ins * math.prod(self._taps)
        task = math.ceil(self._groups / parts) * (arithmetic + _COPY_CYCLES * slab.bytes / 4)
        return task * math.ceil(math.prod(self._cuts(slab)) * parts / cores(self._work))

    def _cuts(self, slab: Slab) -> list[int]:
        """How many blocks there are along the batch and along each dimension."""
        extents = [self._batch, *(dim.out for dim in self._dims)]
        return [math.ceil(extent / size) for extent, size in zip(extents, _block(slab), strict=True)]

    def _emit(self) -> None:
        cuts = self._cuts(self._slab)
        with tasks(math.prod(cuts) * self._parts, self._work) as task, build.sblock("task"):
            build.reads([])
            build.writes([])
            length = self._tiles * self._tile.columns
            phases = math.prod(self._slab.phases)
            slab = build.sblock_alloc_buffer((self._ins, phases, self._slab.size(length)), "float32")
            sums = build.sblock_alloc_buffer((self._tile.rows, length), "float32")
            blocks = zip(unravel(task // self._parts, cuts), _block(self._slab), strict=True)
            first = [at * size for at, size in blocks]
            per_part = math.ceil(self._groups / self._parts)
            with loops([per_part]) as (g,):
                group = task % self._parts * per_part + g if self._groups > 1 else index(0)
                with build.If(group < self._groups), build.Then():
                    self._slab.fill(slab, self._input, group * self._ins, first, self._registers.lanes)
                    self._group(slab, sums, first, group, task % self._parts)

    def _group(self, slab: Any, sums: Any, first: Sequence[Expr], group: Expr, part: Expr) -> None:
        """A block's positions for the output channels of a group, or for a part of those."""
        rows = self._tile.rows
        blocks = math.ceil(self._outs / rows)
        count = blocks if self._groups > 1 else math.ceil(blocks / self._parts)
        begin = index(0) if self._groups > 1 else part * count
        with loops([count]) as (b,):
            channel = (begin + b) * rows
            with build.If(channel < self._outs), build.Then():
                with loops([self._tiles]) as (t,):
                    self._multiply(slab, sums, group * self._outs, channel, t * self._tile.columns)
                with loops([rows]) as (row,), build.If(channel + row < self._outs), build.Then():
                    self._store(sums, first, group * self._outs + channel + row, row)

    def _multiply(self, slab: Any, sums: Any, group: Expr, channel: Expr, position: Expr) -> None:
        """One tile: some output channels at some positions of the line."""
        split = next(at for at in range(len(self._taps) + 1) if math.prod(self._taps[at:]) <= _WRITTEN_OUT_TAPS)
        ragged = self._outs % self._tile.rows != 0

        def left(row: Expr, *step: Expr) -> Expr:
            # Past the last channel the tile reads that one again; what comes of it is not stored.
            out = T.min(channel + row, index(self._outs - 1)) if ragged else channel + row
            return wide(self._weight[(group + out, *step)])

        def right(at: int, lanes: int, in_channel: Expr, *taps: Expr) -> Expr:
            phases, shifts = zip(*(dim.tap(tap) for dim, tap in zip(self._dims, taps, strict=True)), strict=True)
            start = position + at + self._slab.shift(shifts)
            return slab[in_channel, index(flat(phases, self._slab.phases)), ramp(start, lanes)]

        def store(row: Expr, at: int, lanes: int, vector: Expr) -> None:
            build.buffer_store(sums, vector, [row, ramp(position + at, lanes)])

        multiply(self._tile, [self._ins, *self._taps[:split]], self._taps[split:], left, right, store)

    def _store(self, sums: Any, first: Sequence[Expr], channel: Expr, row: Expr) -> None:
        """The epilogue for one output channel of a block, row by row."""
        extents = (self._batch, *(dim.out for dim in self._dims))
        with loops(_block(self._slab)[:-1]) as lines:
            start = flat((*lines, 0), self._slab.plane)
            image, *places = (begin + line for begin, line in zip(first, lines, strict=False))
            outside = [
                at < extent
                for at, extent, size in zip((image, *places), extents, _block(self._slab), strict=False)
                if extent % size
            ]

            def vector(at: Expr, width: int) -> None:
                with self._whole.lanes(width) as lane:
                    self._whole.finish(sums[row, start + at + lane], [image, channel, *places, at + lane])

            with build.If(tirx.all(index(0) == 0, *outside)), build.Then():
                in_vectors(extents[-1], self._registers.lanes, vector)


def _named(slab: Slab, parts: int) -> Choice:
    return {"images": slab.images, **{f"block{dim}": size for dim, size in enumerate(slab.blocks)}, "parts": parts}


def _block(slab: Slab) -> tuple[int, ...]:
    return (slab.images, *slab.blocks)


def _sizes(extent: int) -> list[int]:
    """The sizes of parts, were an extent cut into 1, 2, 3, 4, 6, 8, … of them."""
    parts = sorted({n for e in range(12) for n in (2**e, 3 * 2**e) if n <= extent} | {extent})
    return list(dict.fromkeys(math.ceil(extent / n) for n in parts))

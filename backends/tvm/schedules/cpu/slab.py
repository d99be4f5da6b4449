"""The scratch from which a convolution reads on a CPU: the input of a block of output positions, padded.

See `convolution` for the picture. A slab has a plane per channel, or one per channel and phase where the stride is not
1: phase p of a dimension holds every stride-th row from the p-th on, so that neighbouring output positions read
neighbouring slab positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tvm import tirx
from tvm.script import tirx as T
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.tile import Expr, flat, in_vectors, index, loops, ramp, spread, wide

_WRITTEN_OUT_PHASES = 4
"""Phases of a row, at most, that get code of their own; others share a slower loop."""


@dataclass(frozen=True)
class Dim:
    """A dimension of space and how the kernel walks over it."""

    extent: int
    out: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def reach(self) -> int:
        """Slab positions that the last tap lies behind the first."""
        return (self.kernel - 1) * self.dilation // self.stride

    @property
    def phases(self) -> int:
        """Into how many planes the stride cuts a slab."""
        return self.stride if self.kernel > 1 else 1

    def rows(self, block: int) -> int:
        """Slab positions of one phase for a block of output positions."""
        if block == self.out and self.stride == 1:
            return max(self.extent + self.padding, block)  # the zeros behind are those before the next row
        return block + self.reach

    def is_inside(self, block: int) -> bool:
        """Whether blocks read nothing outside of the input."""
        return self.stride == 1 and self.padding == 0 and self.out % block == 0

    def tap(self, k: Expr) -> tuple[Any, Any]:
        """Phase and shift of a tap."""
        k = int(k.value) if isinstance(k, tirx.IntImm) else k
        return k * self.dilation % self.stride, k * self.dilation // self.stride


@dataclass(frozen=True)
class Slab:
    """A slab for blocks of some images and some extents.

    Attributes:
        dims: of space.
        images: of the batch, per block.
        blocks: output positions per block along each dimension; all of the last.
        channels: of the input that a block reads at a time.
    """

    dims: tuple[Dim, ...]
    images: int
    blocks: tuple[int, ...]
    channels: int

    @property
    def plane(self) -> tuple[int, ...]:
        """Slab positions of a plane: images, then each dimension."""
        return (self.images, *(dim.rows(block) for dim, block in zip(self.dims, self.blocks, strict=True)))

    @property
    def phases(self) -> tuple[int, ...]:
        """Phases along each dimension."""
        return tuple(dim.phases for dim in self.dims)

    @property
    def line(self) -> int:
        """How many positions of the line a block's outputs span."""
        return 1 + int(flat((self.images - 1, *(block - 1 for block in self.blocks)), self.plane))

    @property
    def bytes(self) -> int:
        """Its size, without what tiles overrun."""
        return 4 * self.channels * math.prod(self.plane) * math.prod(self.phases)

    def shift(self, taps: Sequence[Any]) -> Any:
        """How far a position of the line moves for shifts along each dimension."""
        return flat((0, *taps), self.plane)

    def size(self, line: int) -> int:
        """The size of a plane from which tiles over so much of a line can read."""
        return max(line + int(self.shift([dim.reach for dim in self.dims])), math.prod(self.plane))

    def fill(self, slab: Any, source: Any, channel: Expr, first: Sequence[Expr], lanes: int) -> None:
        """Emit the copy of a block's input, with zeros where there is none.

        Args:
            slab: the buffer, [channel, phase, position].
            source: the input.
            channel: the first one.
            first: image and output positions where the block begins.
            lanes: of a vector.
        """
        batch, used, size = int(source.shape[0]), math.prod(self.plane), int(slab.shape[-1])
        *outer, x = self.dims
        columns = self.plane[-1]
        write_out = x.phases <= _WRITTEN_OUT_PHASES
        with loops([self.channels, *self.phases[:-1], 1 if write_out else x.phases]) as (c, *offsets, moving):
            for column in range(x.phases) if write_out else [moving]:
                phase = index(flat((*offsets, column), self.phases))
                with loops(self.plane[:-1]) as (image, *lines):
                    at = first[0] + image
                    inside = [at < batch] if batch % self.images else []
                    places = []
                    for dim, block, begin, line, offset in zip(
                        outer, self.blocks, first[1:], lines, offsets, strict=False
                    ):
                        places.append((begin + line) * dim.stride + offset - dim.padding)
                        inside += [] if dim.is_inside(block) else [places[-1] >= 0, places[-1] < dim.extent]
                    start = flat((image, *lines, 0), self.plane)
                    row = _Row(slab, (c, phase), start, source, (at, channel + c, *places), lanes)
                    row.copy(columns, x, column, inside)
                _Row(slab, (c, phase), index(used), source, (), lanes).zero(0, size - used)


@dataclass(frozen=True)
class _Row:
    """One row of a slab, and where it comes from."""

    slab: Any
    lead: tuple[Expr, ...]
    start: Expr
    source: Any
    position: tuple[Expr, ...]
    lanes: int

    def copy(self, columns: int, x: Dim, phase: Expr, conditions: Sequence[Expr]) -> None:
        """Every stride-th column from a phase on, between zeros; zeros only, unless all conditions hold."""
        if not conditions:
            self._copy(columns, x, phase)
            return
        with build.If(tirx.all(*conditions)):
            with build.Then():
                self._copy(columns, x, phase)
            with build.Else():
                self.zero(0, columns)

    def _copy(self, columns: int, x: Dim, phase: Expr) -> None:
        if isinstance(phase, int):
            skip = phase - x.padding
            before = min(columns, max(0, -(skip // x.stride)))
            holds = max(0, min(columns, (x.extent - 1 - skip) // x.stride + 1) - before)
            self.zero(0, before)
            in_vectors(holds, self.lanes, partial(self._vector, before, x.stride, before * x.stride + skip))
            self.zero(before + holds, columns - before - holds)
            return
        with loops([columns]) as (column,):
            at = column * x.stride + phase - x.padding
            value = wide(self.source[(*self.position, at)])
            held = tirx.if_then_else(tirx.all(at >= 0, at < x.extent), value, T.float32(0))
            build.buffer_store(self.slab, held, [*self.lead, self.start + column])

    def _vector(self, first: int, stride: int, skip: int, at: Expr, width: int) -> None:
        with build.vectorized(T.int64(0), T.int64(width)) as lane:
            value = wide(self.source[(*self.position, (at + lane) * stride + skip)])
            build.buffer_store(self.slab, value, [*self.lead, self.start + first + at + lane])

    def zero(self, begin: int, count: int) -> None:
        """Zeros in some columns."""

        def vector(at: Expr, width: int) -> None:
            place = [*self.lead, ramp(self.start + begin + at, width)]
            build.buffer_store(self.slab, spread(T.float32(0), width), place)

        in_vectors(count, self.lanes, vector)

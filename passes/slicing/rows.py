"""The positions of results that a part has: those that it takes from the part before it, and those that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes.rules import Emit, crop, join
from penstock.passes.slicing.spans import Spans, clipped
from penstock.passes.slicing.tiling import Tiling

aten = torch.ops.aten


class Rows:
    """What the operators of one part read of each other.

    What is kept of a result is made as soon as nothing reads any more what was taken of it, so that it can lie in the
    same memory.

    Args:
        taken: what the part takes of results.
    """

    def __init__(self, tiling: Tiling, found: Spans, taken: Mapping[Node, Any]) -> None:
        self._tiling = tiling
        self._found = found
        self._taken = taken
        self._made: dict[Node, Any] = {}
        self._joined: dict[tuple[Node, int, int], Any] = {}
        self._kept: dict[Node, Any] = {}
        self._last: dict[Node, tuple[Node, str]] = {}  # the last to read what was taken of a result: operator, argument
        for node in tiling.sliced:
            for key, source, need in tiling.reads[node] if node in found.made and taken else ():
                if source in taken:
                    (low, high), _ = clipped(need, found.made[node])
                    if low < min(high, found.taken[source][1]):
                        self._last[source] = node, key

    def add(self, emit: Emit, node: Node, made: Any) -> None:
        """A result that the part made."""
        self._made[node] = made
        if node not in self._last:
            self._keep(emit, node)

    def read(self, emit: Emit, node: Node, key: str, low: int, high: int) -> Any:
        """Positions low … high-1 of an operator's argument."""
        source = self._tiling.sources[node][key]
        found = self._positions(emit, source, low, high)
        if self._last.get(source) == (node, key):
            self._keep(emit, source)
        return found

    def tile(self, emit: Emit, output: Node) -> Any:
        """The part's own positions of an output."""
        return self._positions(emit, output, *self._found.tiles[output])

    def kept(self, emit: Emit) -> list[Any]:
        """What the part keeps, in the order of its spans."""
        for source in self._found.kept:
            if source not in self._kept:  # nothing is made of it, and nothing reads it in this part
                self._keep(emit, source)
        return [self._kept[source] for source in self._found.kept]

    def _keep(self, emit: Emit, source: Node) -> None:
        if source not in self._found.kept:
            return
        low, high = self._found.kept[source]
        if source in self._found.kept_of_both:
            self._kept[source] = self._both(emit, source, low, high)
        else:
            part = self._positions(emit, source, low, high)
            self._kept[source] = emit(aten.clone.default, part, memory_format=torch.contiguous_format)

    def _positions(self, emit: Emit, source: Node, low: int, high: int) -> Any:
        axis, taken, made = self._tiling.axes[source], self._found.taken.get(source), self._found.made.get(source)
        if self._found.is_joined(source, low, high):
            first, last = self._found.to_join(source, low, high)
            key = source, first, last
            if key not in self._joined:
                self._joined[key] = self._both(emit, source, first, last)
            held = self._joined[key]
        elif taken is None or low >= taken[1]:
            assert made is not None
            held, (first, last) = self._made[source], made
        else:
            held, (first, last) = self._taken[source], taken
        return crop(emit, held, axis, last - first, low - first, high - first)

    def _both(self, emit: Emit, source: Node, low: int, high: int) -> Any:
        """Positions of which some were taken and some are made, put together."""
        axis, taken, made = self._tiling.axes[source], self._found.taken[source], self._found.made[source]
        first = crop(emit, self._taken[source], axis, taken[1] - taken[0], low - taken[0], taken[1] - taken[0])
        second = crop(emit, self._made[source], axis, made[1] - made[0], 0, high - made[0])
        return join(emit, first, second, axis, (taken[1] - low, high - made[0]))

"""Runs of operators that are alike, as in the blocks of a transformer: what holds for one holds for all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from penstock.passes.core.aliases import Buffer
from penstock.passes.slicing.timeline import Timeline


class Twins:
    """Tells runs of one graph apart by all that plans for them depend on.

    Args:
        buffers: for each node, the buffer that it looks into.
    """

    def __init__(self, line: Timeline, buffers: Mapping[Node, Buffer | None]) -> None:
        self._line = line
        self._buffers = buffers
        self._index = {node: index for index, node in enumerate(line.nodes)}
        self._known: dict[tuple[int, int], int] = {}
        self._kinds: dict[Hashable, int] = {}
        self._last: dict[Buffer, int] = {}
        for node, buffer in buffers.items():
            used = line.last_use.get(line.base[node], -1)
            if buffer is not None:
                self._last[buffer] = max(used, self._last.get(buffer, -1))

    def kind(self, start: int, stop: int) -> int:
        """The same number for all runs start … stop-1 that are alike."""
        if (start, stop) not in self._known:
            self._known[start, stop] = self._kinds.setdefault(self._key(start, stop), len(self._kinds))
        return self._known[start, stop]

    def _key(self, start: int, stop: int) -> Hashable:
        """What makes runs alike: operators, shapes, what they take, what waits and what dies."""
        line = self._line
        places: dict[Node, int] = {}  # of nodes inside, and of those outside that are used, in order
        held: dict[Buffer | None, int] = {}
        rows: list[Any] = [line.live[start : stop + 1], line.during[start:stop]]

        def place(node: Node) -> int:
            if node not in places:
                rows.append(described(node))
                places[node] = len(rows)
            return places[node]

        def described(node: Node) -> Any:
            inside = start <= self._index.get(node, -1) < stop
            is_view = line.base[node] is not node
            made = repr(map_arg((node.args, node.kwargs), place)) if inside or is_view else None
            buffer = self._buffers[node]
            last = line.last_use.get(node, -1), self._last.get(buffer, -1) if buffer is not None else -1
            value = node.meta.get("val")
            size = (value.shape, value.dtype, value.stride()) if isinstance(value, torch.Tensor) else None
            whole = buffer.node.op if buffer is not None else None
            return (
                node.op,
                node.target if node.op == "call_function" else None,
                inside,
                made,
                size,
                whole,
                held.setdefault(buffer, len(held)),
                *(each - start if start <= each < stop else each >= stop for each in last),
            )

        for node in line.nodes[start:stop]:
            place(node)
        return tuple(rows)

"""Results of a loop that are written where a value lies that dies in it."""

from __future__ import annotations

from collections.abc import Mapping

from torch.fx import Node

from penstock.passes.analysis.axes import Axis, WholeError
from penstock.passes.core.aliases import Buffer
from penstock.passes.slicing.facts import Facts
from penstock.passes.slicing.spans import Window, spans
from penstock.passes.slicing.tiling import Tiling
from penstock.passes.slicing.timeline import Timeline


class Memory:
    """Who looks into whose memory in one graph.

    Args:
        views: for each node, the buffer that it looks into.
        facts: about the nodes of the graph.
    """

    def __init__(self, line: Timeline, views: Mapping[Node, Buffer | None], facts: Facts) -> None:
        self._line = line
        self._facts = facts
        self._views = views
        self._index = {node: index for index, node in enumerate(line.nodes)}
        self._looking: dict[Node, list[Node]] = {}  # into the buffer of each node
        for node, buffer in views.items():
            if buffer is not None:
                self._looking.setdefault(buffer.node, []).append(node)

    def reuses(self, start: int, stop: int, tiling: Tiling) -> Mapping[Node, Node]:
        """Outputs of a run that can be written where a value lies that dies in the run, and that value.

        Each part reads of that value just the bytes that it writes, and nothing else looks into its memory.
        """
        pairs = [
            (output, window)
            for window in self._read_in_step(tiling)
            for output in tiling.outputs
            if tiling.axes[output].size % tiling.size == 0
            and self._same_bytes(*window, output, tiling.axes[output])
            and self._dies(window[0], start, stop)
        ]
        if not pairs:
            return {}
        try:
            parts = [spans(tiling, low, low + 1) for low in sorted({0, tiling.size // 2, tiling.size - 1})]
        except WholeError:
            return {}
        found: dict[Node, Node] = {}
        for output, window in pairs:
            free = output not in found and window[0] not in found.values()
            if free and all(part.windows.get(window) == part.tiles[output] for part in parts):
                found[output] = window[0]
        return found

    def _dies(self, value: Node, start: int, stop: int) -> bool:
        """Whether a run is the last to need the memory of a value from before it."""
        buffer = self._views[value]
        if (
            buffer is None
            or buffer.node.op != "call_function"
            or self._facts[value].bytes != self._facts[buffer.node].bytes
        ):
            return False
        last_use = self._line.last_use
        return self._index[value] < start and all(
            last_use[node] < stop for node in self._looking[buffer.node] if node in last_use
        )

    def _read_in_step(self, tiling: Tiling) -> list[Window]:
        """The values from before the loop of which a part reads along one axis only, position by position.

        What a part reads otherwise is left alone, and so is everything in the same memory.
        """
        taken: dict[Node, Axis] = {}
        spoiled: set[Buffer | None] = set()
        inside = set(tiling.sliced)
        for node in tiling.sliced:
            for key, source in tiling.sources[node].items():
                need = tiling.needs[node][key]
                if need is None:
                    spoiled.add(self._views[source])
                elif source in inside or source.op == "get_attr":
                    continue
                elif not need.is_parallel or taken.setdefault(source, need.axis) != need.axis:
                    spoiled.add(self._views[source])
        return [(source, axis) for source, axis in taken.items() if self._views[source] not in spoiled]

    def _same_bytes(self, one: Node, along: Axis, other: Node, across: Axis) -> bool:
        """Whether equal positions of two values are the same bytes of equally large memory."""
        a, b = self._facts[one], self._facts[other]
        if a.bytes != b.bytes or a.item_bytes != b.item_bytes or along.size != across.size:
            return False
        if along.is_contiguous(a.shape) and across.is_contiguous(b.shape):
            return True
        return a.shape == b.shape and along == across

"""Offsets for blocks of memory that are not all needed at once: dynamic storage allocation, offline.

The problem is NP-hard. Greedy packing, largest blocks first, comes within a few percent of the lower bound on most
models; what sticks out is then moved to the front of the order and everything is packed again.

Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 5.2 (greedy by
size); the search over orders is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_ROUNDS = 40
_MOST_BLOCKS_TO_SEARCH = 4000
_GOOD_ENOUGH = 1.002


@dataclass(frozen=True)
class Block:
    """A piece of memory to place.

    Attributes:
        name: for messages.
        bytes: its size.
        alive: intervals of time, first and last moment included, in which its content is needed.
    """

    name: str
    bytes: int
    alive: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Placement:
    """Where every block lies.

    Attributes:
        places: arena and offset of each block.
        arenas: the size of each arena in bytes.
        lower_bound: the largest sum of blocks alive at one moment; no placement needs less.
    """

    places: tuple[tuple[int, int], ...]
    arenas: tuple[int, ...]
    lower_bound: int

    @property
    def bytes(self) -> int:
        """All arenas together."""
        return sum(self.arenas)


class TooLargeError(ValueError):
    """A block is larger than the largest arena allowed."""

    def __init__(self, block: Block, limit: int) -> None:
        super().__init__(f"'{block.name}' has {block.bytes} bytes, the largest allocation is {limit}")
        self.block = block


def place(blocks: Sequence[Block], alignment: int, largest: int | None = None) -> Placement:
    """Give every block a place, so that no two that are alive together overlap.

    Args:
        blocks: in any order.
        alignment: of every offset, in bytes.
        largest: the size that no arena may exceed.

    Raises:
        TooLargeError: a block does not fit into an arena of its own.
    """
    limit = largest if largest is not None else 1 << 62
    for block in blocks:
        if block.bytes > limit:
            raise TooLargeError(block, limit)
    bound = lower_bound(blocks)
    packer = _Packer(blocks, alignment, limit // alignment * alignment)
    orders: list[Callable[[int], tuple[int, ...]]] = [
        lambda i: (-blocks[i].bytes, -packer.length[i], i),
        lambda i: (-blocks[i].bytes * packer.length[i], i),
        lambda i: (-packer.length[i], -blocks[i].bytes, i),
        lambda i: (packer.first[i], -blocks[i].bytes, i),
    ]
    best: Placement | None = None
    for key in orders:
        best = _search(packer, sorted(range(len(blocks)), key=key), bound, best)
        if best.bytes <= bound * _GOOD_ENOUGH:
            break
    assert best is not None
    return best


def _search(packer: _Packer, order: list[int], bound: int, best: Placement | None) -> Placement:
    """Pack in an order, then with what sticks out moved to the front, as long as rounds are left."""
    rounds = _ROUNDS if len(order) <= _MOST_BLOCKS_TO_SEARCH else 1
    seen: set[int] = set()
    for _ in range(rounds):
        places, arenas = packer.pack(order)
        if best is None or sum(arenas) < best.bytes:
            best = Placement(places, arenas, bound)
        highest = max(order, key=lambda i: packer.end(places[i], i), default=None)
        if highest is None or best.bytes <= bound * _GOOD_ENOUGH or highest in seen:
            break
        seen.add(highest)
        order = [highest, *(i for i in order if i != highest)]
    assert best is not None
    return best


def lower_bound(blocks: Sequence[Block]) -> int:
    """The largest sum of blocks alive at one moment, in bytes."""
    change: dict[int, int] = {}
    for block in blocks:
        for first, last in block.alive:
            change[first] = change.get(first, 0) + block.bytes
            change[last + 1] = change.get(last + 1, 0) - block.bytes
    most = live = 0
    for moment in sorted(change):
        live += change[moment]
        most = max(most, live)
    return most


class _Packer:
    """Places blocks one by one, each at the lowest offset that is free as long as it lives."""

    def __init__(self, blocks: Sequence[Block], alignment: int, limit: int) -> None:
        self._sizes = [-(-block.bytes // alignment) * alignment for block in blocks]
        self._raw = [block.bytes for block in blocks]
        self._alive = [block.alive for block in blocks]
        self._limit = limit
        self.first = [min((first for first, _ in block.alive), default=0) for block in blocks]
        self.length = [sum(last - first + 1 for first, last in block.alive) for block in blocks]
        # All intervals of all blocks, side by side.
        self._owner = np.array([i for i, block in enumerate(blocks) for _ in block.alive], dtype=np.int64)
        self._start = np.array([first for block in blocks for first, _ in block.alive], dtype=np.int64)
        self._stop = np.array([last for block in blocks for _, last in block.alive], dtype=np.int64)

    def end(self, place: tuple[int, int], block: int) -> int:
        """Where a block at a place ends."""
        return place[1] + self._sizes[block]

    def pack(self, order: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
        """The place of each block, and the size of each arena."""
        count = len(self._sizes)
        arena = np.full(count, -1, dtype=np.int64)
        offset = np.zeros(count, dtype=np.int64)
        sizes = np.array(self._sizes, dtype=np.int64)
        arenas: list[int] = []
        for block in order:
            rivals = self._rivals(block)
            rivals = rivals[arena[rivals] >= 0]
            for index in range(len(arenas) + 1):
                there = rivals[arena[rivals] == index]
                at = _lowest_gap(offset[there], sizes[there], self._sizes[block])
                if index == len(arenas) or at + self._sizes[block] <= self._limit:
                    break
            if index == len(arenas):
                arenas.append(0)
            arena[block], offset[block] = index, at
            arenas[index] = max(arenas[index], int(at) + self._raw[block])
        return tuple(zip(arena.tolist(), offset.tolist(), strict=True)), tuple(arenas)

    def _rivals(self, block: int) -> npt.NDArray[np.int64]:
        """The blocks alive at some moment at which this one is."""
        overlaps = np.zeros(len(self._owner), dtype=bool)
        for first, last in self._alive[block]:
            overlaps |= (self._start <= last) & (self._stop >= first)
        return np.unique(self._owner[overlaps])


def _lowest_gap(offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], needed: int) -> int:
    """The lowest offset at which `needed` bytes are free between ranges that may overlap."""
    free = 0
    by_offset = np.argsort(offsets, kind="stable")
    for start, size in zip(offsets[by_offset].tolist(), sizes[by_offset].tolist(), strict=True):
        if start - free >= needed:
            break
        free = max(free, start + size)
    return free

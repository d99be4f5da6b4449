"""Offsets for blocks of memory that are not all needed at once: dynamic storage allocation, offline.

The problem is NP-hard. Greedy packing, largest blocks first, meets the lower bound on most models. Where it does not,
the block that ends highest is placed first, again and again. Where that does not do either, a constraint solver starts
from what it gave and packs rectangles: time is one side, memory the other. It is asked for a packing that is low
enough, which it finds many times faster than the lowest; only where there is none that it finds, for the lowest.

Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 5.2 (greedy by
size).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

_GOOD_ENOUGH = 1.002
_ROUNDS = 60  # of placing the block first that ended highest, for each order to begin with
_ATTEMPT, _EFFORT = 0.1, 2.5
"""Of the solver, in its own unit, seconds each, so that the same plan comes out on every machine: to find a placement
that is low enough, from each of the packings in turn, as a search is over soon or never; and to find the lowest."""


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


def place(blocks: Sequence[Block], alignment: int, largest: int | None = None, enough: int = 0) -> Placement:
    """Give every block a place, so that no two that are alive together overlap.

    Args:
        blocks: in any order.
        alignment: of every offset, in bytes.
        largest: the size that no arena may exceed.
        enough: bytes within which neither further orders nor the solver are tried.

    Raises:
        TooLargeError: a block does not fit into an arena of its own.
    """
    limit = largest if largest is not None else 1 << 62
    for block in blocks:
        if block.bytes > limit:
            raise TooLargeError(block, limit)
    bound = lower_bound(blocks)
    # Many small blocks cannot come near the bound, as each takes a multiple of the alignment.
    reachable = lower_bound([replace(block, bytes=-(-block.bytes // alignment) * alignment) for block in blocks])
    packer = _Packer(blocks, alignment, limit // alignment * alignment)
    orders: list[Callable[[int], tuple[int, ...]]] = [
        lambda i: (-blocks[i].bytes, -packer.length[i], i),
        lambda i: (-blocks[i].bytes * packer.length[i], i),
        lambda i: (-packer.length[i], -blocks[i].bytes, i),
        lambda i: (packer.first[i], -blocks[i].bytes, i),
    ]
    starts = [sorted(range(len(blocks)), key=key) for key in orders]
    best: list[Placement] = []  # from each order
    for rounds in (1, _ROUNDS):
        best.clear()
        for order in starts:
            lowest: Placement | None = None
            for found in _bumped(packer, order, blocks, bound, rounds):
                lowest = found if lowest is None or found.bytes < lowest.bytes else lowest
                if lowest.bytes <= reachable * _GOOD_ENOUGH:
                    return lowest
            assert lowest is not None
            best.append(lowest)
            if rounds > 1 and lowest.bytes <= enough:
                return lowest
    best.sort(key=lambda placement: placement.bytes)
    if best[0].bytes <= enough:
        return best[0]
    goal = max(enough, int(reachable * _GOOD_ENOUGH))
    tries = [(start, goal, _ATTEMPT) for start in best if len(start.arenas) == 1]
    for start, wanted, effort in (*tries, (best[0], None, _EFFORT)):
        solved = _solved(blocks, start, alignment, limit, wanted, effort)
        if solved is not None:
            order = sorted(range(len(blocks)), key=solved.places.__getitem__)
            again = Placement(*packer.pack(order), bound)
            return min(solved, best[0], again, key=lambda placement: placement.bytes)
    return best[0]


def _bumped(
    packer: _Packer, order: Sequence[int], blocks: Sequence[Block], bound: int, rounds: int
) -> Iterator[Placement]:
    """Packings in an order, each time with the block first that ended highest the last time."""
    order = list(order)
    for _ in range(rounds):
        found = Placement(*packer.pack(order), bound)
        yield found
        highest = max(order, key=lambda index: found.places[index][1] + blocks[index].bytes, default=None)
        if highest is None or highest == order[0]:
            return
        order.remove(highest)
        order.insert(0, highest)


def _solved(
    blocks: Sequence[Block], start: Placement, alignment: int, limit: int, goal: int | None, effort: float
) -> Placement | None:
    """A placement by constraint solving; None where none is found in time.

    Args:
        start: where the search begins.
        goal: bytes that it may need; None for as few as are found.
        effort: of the solver, in its own unit of time.
    """
    from ortools.sat.python import cp_model  # here, because few models need it

    model = cp_model.CpModel()
    room = limit // alignment  # of an arena, and the distance between two, counted in units of the alignment
    spread = len(start.arenas) > 1
    most = room * len(start.arenas) if spread else -(-start.bytes // alignment)
    top = model.new_int_var(0, most, "top")
    offsets, times, ranges = [], [], []
    for index, (block, (arena, offset)) in enumerate(zip(blocks, start.places, strict=True)):
        size = -(-block.bytes // alignment)
        offsets.append(model.new_int_var(0, most - size, f"offset {index}"))
        model.add(offsets[-1] + size <= top)
        model.add_hint(offsets[-1], arena * room * spread + offset // alignment)
        if spread:
            number, within = (model.new_int_var(0, end, "") for end in (len(start.arenas) - 1, room - size))
            model.add(offsets[-1] == number * room + within)
        for first, last in _apart(block.alive) if size else ():
            times.append(model.new_fixed_size_interval_var(first, last - first + 1, ""))
            ranges.append(model.new_fixed_size_interval_var(offsets[-1], size, ""))
    model.add_no_overlap_2d(times, ranges)
    if goal is None:
        model.minimize(top)
    else:
        model.add(top <= goal // alignment)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = effort
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    places = [divmod(solver.value(offset), room) if spread else (0, solver.value(offset)) for offset in offsets]
    arenas = [0] * len(start.arenas)
    for block, (arena, offset) in zip(blocks, places, strict=True):
        arenas[arena] = max(arenas[arena], offset * alignment + block.bytes)
    return Placement(
        tuple((arena, offset * alignment) for arena, offset in places),
        tuple(arenas[: 1 + max((index for index, size in enumerate(arenas) if size), default=0)]),
        start.lower_bound,
    )


def _apart(alive: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same moments in intervals that do not overlap."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(alive):
        if result and first <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], last)
        else:
            result.append((first, last))
    return result


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
        self._limit = limit
        self._rivals = _rivals(blocks)
        self.first = [min((first for first, _ in block.alive), default=0) for block in blocks]
        self.length = [sum(last - first + 1 for first, last in block.alive) for block in blocks]

    def pack(self, order: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
        """The place of each block, and the size of each arena."""
        sizes = self._sizes
        places: list[tuple[int, int] | None] = [None] * len(sizes)
        arenas: list[int] = []
        for block in order:
            taken: dict[int, list[tuple[int, int]]] = {}
            for rival in self._rivals[block]:
                there = places[rival]
                if there is not None:
                    taken.setdefault(there[0], []).append((there[1], there[1] + sizes[rival]))
            for index in range(len(arenas) + 1):
                at = _lowest_gap(taken.get(index, []), sizes[block])
                if index == len(arenas) or at + sizes[block] <= self._limit:
                    break
            if index == len(arenas):
                arenas.append(0)
            places[block] = index, at
            arenas[index] = max(arenas[index], at + self._raw[block])
        return tuple(place or (0, 0) for place in places), tuple(arenas)


def _rivals(blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """For each block with any bytes, those that are alive at some moment at which it is."""
    rivals: list[set[int]] = [set() for _ in blocks]
    intervals = sorted(
        (first, last, index) for index, block in enumerate(blocks) if block.bytes for first, last in block.alive
    )
    alive: list[tuple[int, int]] = []
    for first, last, index in intervals:
        alive = [(end, other) for end, other in alive if end >= first]
        for _, other in alive:
            if other != index:
                rivals[index].add(other)
                rivals[other].add(index)
        alive.append((last, index))
    return [tuple(sorted(others)) for others in rivals]


def _lowest_gap(taken: Sequence[tuple[int, int]], needed: int) -> int:
    """The lowest offset at which `needed` bytes are free between ranges that may overlap."""
    free = 0
    for start, end in sorted(taken):
        if start - free >= needed:
            break
        free = max(free, end)
    return free

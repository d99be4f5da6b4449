"""What a code generator leaves: kernels, and per graph a list of launches over buffers that have no address yet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from penstock.passes.core.shapes import dtype_named

Extent = tuple[int, int, int]
_SUFFIXES = {"opencl": ".cl", "metal": ".metal", "cuda": ".cu", "tir": ".tir.py"}


@dataclass(frozen=True)
class Type:
    """The dtype and shape of a dense row-major tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * dtype_named(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Work:
    """What one launch of a kernel does; zeros where nobody counted.

    Attributes:
        flops: floating-point operations of all threads, a multiply-add as two.
        moved_bytes: least traffic to memory: what it reads and writes, each byte once.
        loads: elements that all threads load from memory and from local memory, whatever cache they come from.
        touched_bytes: what all threads read and write of memory, repeats included.
        disorderly_bytes: of these, what is neither moved in vectors nor shared or adjacent within a wave.
    """

    flops: int = 0
    moved_bytes: int = 0
    loads: int = 0
    touched_bytes: int = 0
    disorderly_bytes: int = 0

    @property
    def intensity(self) -> float:
        """Operations per byte of the least traffic."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        entry: the function's name in the source, or in the library of a CPU.
        source: compiles on its own. Of a CPU's kernel, TVM's scheduled loop nest, to be looked at.
        language: ``opencl``, ``metal`` or ``cuda``; ``tir`` for the functions of a CPU library.
        arguments: the buffers that it takes, in order.
        writes: those that it writes.
        in_place: pairs (written, read) of arguments that may share their memory.
        grid: work-groups along x, y, z.
        block: threads of a work-group along x, y, z.
        local_memory_bytes: what a work-group shares.
        work: what one launch does; of a GPU's kernel.
    """

    name: str
    entry: str
    source: str
    language: str
    arguments: tuple[Type, ...]
    writes: tuple[int, ...]
    in_place: tuple[tuple[int, int], ...]
    grid: Extent = (1, 1, 1)
    block: Extent = (1, 1, 1)
    local_memory_bytes: int = 0
    work: Work = Work()

    @property
    def file(self) -> str:
        """Where an artifact keeps the source."""
        return f"kernels/{self.name}{_SUFFIXES[self.language]}"


@dataclass(frozen=True)
class Storage:
    """A piece of memory that values lie in.

    Attributes:
        space: ``local`` to the graph, a ``parameter`` that the caller hands over, or a ``weight``.
        index: which parameter.
        weight: the name of the weight.
    """

    space: Literal["local", "parameter", "weight"]
    bytes: int
    index: int = 0
    weight: str = ""


@dataclass(frozen=True)
class Value:
    """A tensor in a storage; several values may look into one.

    Attributes:
        offset: in bytes, in the first iteration of all loops around.
        strides: bytes by which it moves with each iteration of each loop around, the outermost first.
    """

    name: str
    type: Type
    storage: int
    offset: int = 0
    strides: tuple[int, ...] = ()


@dataclass(frozen=True)
class Launch:
    """Run a kernel on values, both by index.

    Attributes:
        made: the graph for which it runs, and what it makes there, or makes a part of.
    """

    kernel: int
    args: tuple[int, ...]
    made: tuple[str, str] = field(default=("", ""), compare=False)


@dataclass(frozen=True)
class Copy:
    """Copy the bytes of one value into another."""

    source: int
    target: int


@dataclass(frozen=True)
class Loop:
    """Run some ops a number of times, on values that move."""

    count: int
    ops: tuple[Op, ...]


Op = Launch | Copy | Loop


@dataclass(frozen=True)
class Body:
    """The launches of one graph.

    Attributes:
        parameters: the types of its arguments, then of its results.
        arguments: how many of them are arguments.
        over: results that take over the memory of an argument, both by their place among the parameters.
    """

    parameters: tuple[Type, ...]
    arguments: int
    storages: tuple[Storage, ...]
    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    over: Mapping[int, int] = field(default_factory=dict)


def weight_results(body: Body) -> dict[int, str]:
    """The results of a graph that are whole weights, by index, with the weights' names, if it makes nothing else."""
    found: dict[int, str] = {}
    for op in body.ops:
        if not isinstance(op, Copy):
            return {}
        source, target = (body.storages[body.values[value].storage] for value in (op.source, op.target))
        if source.space != "weight" or target.space != "parameter" or source.bytes != target.bytes:
            return {}
        found[target.index - body.arguments] = source.weight
    return found if len(found) == len(body.parameters) - body.arguments else {}


def lifetimes(body: Body) -> list[tuple[int, int] | None]:
    """For each storage, the first and the last moment at which its content is needed; None for one that none touches.

    A moment is one op, those inside of loops counted one after the other. What a loop shares with the outside, or with
    the caller, is needed from its first op to its last.
    """
    touched: list[list[int]] = [[] for _ in body.storages]
    for moment, value in touches(body.ops):
        touched[body.values[value].storage].append(moment)
    loops = list(_loops(body.ops))
    around: list[list[int]] = [[] for _ in range(moments(body.ops))]
    for loop, (start, stop) in enumerate(loops):  # inner ones first
        for moment in range(start, stop):
            around[moment].append(loop)
    result: list[tuple[int, int] | None] = []
    for storage, used in zip(body.storages, touched, strict=True):
        if not used:
            result.append(None)
            continue
        first, last = min(used), max(used)
        for loop in sorted({loop for moment in used for loop in around[moment]}):
            start, stop = loops[loop]
            if storage.space != "local" or first < start or last >= stop:
                first, last = min(first, start), max(last, stop - 1)
        result.append((first, last))
    return result


def launches(
    ops: Sequence[Op], start: int = 0, loop: range | None = None
) -> Iterator[tuple[int, range | None, Launch]]:
    """Every launch with its moment, and the moments of the innermost loop around it."""
    for op in ops:
        if isinstance(op, Loop):
            yield from launches(op.ops, start, range(start, start + moments(op.ops)))
        elif isinstance(op, Launch):
            yield start, loop, op
        start += moments([op])


def moments(ops: Iterable[Op]) -> int:
    """How many ops there are, those inside of loops counted, loops themselves not."""
    return sum(moments(op.ops) if isinstance(op, Loop) else 1 for op in ops)


def touches(ops: Iterable[Op], at: int = 0) -> Iterator[tuple[int, int]]:
    """Each moment and each value that its op reads or writes."""
    for op in ops:
        if isinstance(op, Loop):
            yield from touches(op.ops, at)
        else:
            yield from ((at, value) for value in (op.args if isinstance(op, Launch) else (op.source, op.target)))
        at += moments([op])


def _loops(ops: Iterable[Op], at: int = 0) -> Iterator[tuple[int, int]]:
    """The first moment of each loop and the one behind it, inner loops before those around them."""
    for op in ops:
        if isinstance(op, Loop):
            yield from _loops(op.ops, at)
            yield at, at + moments(op.ops)
        at += moments([op])

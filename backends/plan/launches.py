"""What a code generator leaves: kernels, and per graph a list of launches over buffers that have no address yet."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
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
    """A tensor in a storage; several values may look into one."""

    name: str
    type: Type
    storage: int
    offset: int = 0


@dataclass(frozen=True)
class Launch:
    """Run a kernel on values, both by index."""

    kernel: int
    args: tuple[int, ...]


@dataclass(frozen=True)
class Copy:
    """Copy the bytes of one value into another."""

    source: int
    target: int


Op = Launch | Copy


@dataclass(frozen=True)
class Body:
    """The launches of one graph.

    Attributes:
        parameters: the types of its arguments, then of its results.
        arguments: how many of them are arguments.
    """

    parameters: tuple[Type, ...]
    arguments: int
    storages: tuple[Storage, ...]
    values: tuple[Value, ...]
    ops: tuple[Op, ...]


def touched(op: Op) -> tuple[int, ...]:
    """The values that an op reads or writes."""
    return op.args if isinstance(op, Launch) else (op.source, op.target)


def lifetimes(body: Body) -> list[tuple[int, int] | None]:
    """For each storage, the first and the last op that touches it; None for one that none touches."""
    result: list[tuple[int, int] | None] = [None] * len(body.storages)
    for position, storage in _touches(body):
        known = result[storage]
        result[storage] = (position if known is None else known[0], position)
    return result


def _touches(body: Body) -> Iterator[tuple[int, int]]:
    for position, op in enumerate(body.ops):
        for value in touched(op):
            yield position, body.values[value].storage

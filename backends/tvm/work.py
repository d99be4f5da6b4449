"""What a GPU kernel does, read off its code: operations, and every access to memory with the addresses of a wave.

Counted on the device function as TVM hands it to its code generator, so that whatever a schedule meant to do, what is
counted is what the kernel does. Branches count as taken, operations on integers (addresses) not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from penstock.backends.plan.launches import Work

LINE = 64
"""Bytes of a cache line, as on all phones' GPUs."""

_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)
_MATRICES = {
    "tirx.simdgroup_multiply_accumulate": (2 * 8**3, 0),
    "tirx.simdgroup_load": (0, 8**2),
    "tirx.simdgroup_store": (0, 8**2),
    "tirx.make_filled_simdgroup_matrix": (0, 0),
}
"""Operations, and elements from or to the memory of the group."""
_FREE = ("if_then_else", "reinterpret", "tvm_storage_sync", "tvm_thread_invariant", "ret", "likely")


@dataclass(frozen=True)
class Access:
    """One load or store in the code.

    Attributes:
        buffer: what it touches.
        stored: whether it writes.
        itemsize: bytes of an element.
        lanes: elements that one thread moves at once.
        adjacent: whether they lie next to each other.
        times: how often a thread does it.
        lines: cache lines that one wave touches at once; of global memory only.
        distinct: different bytes that one wave touches at once.
    """

    buffer: Any
    stored: bool
    itemsize: int
    lanes: int
    adjacent: bool
    times: int
    lines: int = 0
    distinct: int = 0

    @property
    def elements(self) -> int:
        """That a thread moves in all."""
        return self.lanes * self.times

    @property
    def orderly(self) -> bool:
        """Whether a thread moves 8 bytes or more at once, or a wave an eighth or more of each line it touches.

        One line for all is orderly too, however little of it is asked for.
        """
        vector = self.adjacent and self.lanes * self.itemsize >= 8
        return vector or self.lines <= 1 or 8 * self.distinct >= self.lines * LINE


def work_of(function: Any, extents: Mapping[str, int], wave: int) -> Work:
    """What one launch does.

    Args:
        function: the device function.
        extents: of its thread axes.
        wave: threads that run in lock step.
    """
    walk = _Walk(function, extents, wave)
    walk.statement(function.body, 1)
    threads = math.prod(extents.values())
    parameters = {buffer: math.prod(int(extent) for extent in buffer.shape) for buffer in walk.outside}
    loaded = [access for access in walk.accesses if not access.stored]
    outside = [access for access in walk.accesses if access.buffer in parameters]
    moved = 0
    for buffer, size in parameters.items():
        for stored in (False, True):
            touched = [access for access in outside if access.buffer is buffer and access.stored is stored]
            if touched:
                moved += min(size, threads * sum(access.elements for access in touched)) * touched[0].itemsize
    return Work(
        flops=threads * walk.flops,
        moved_bytes=moved,
        loads=threads * sum(access.elements for access in loaded),
        touched_bytes=threads * sum(access.elements * access.itemsize for access in outside),
        disorderly_bytes=threads * sum(access.elements * access.itemsize for access in outside if not access.orderly),
    )


@dataclass
class _Walk:
    function: Any
    extents: Mapping[str, int]
    wave: int
    flops: int = 0
    accesses: list[Access] = field(default_factory=list)
    outside: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        block = [self.extents.get(f"threadIdx.{axis}", 1) for axis in "xyz"]
        lane = np.arange(min(self.wave, math.prod(block)))[:, None]
        x, y = lane % block[0], lane // block[0] % block[1]
        self._threads = {"threadIdx.x": x, "threadIdx.y": y, "threadIdx.z": lane // (block[0] * block[1])}
        self._values: dict[Any, Any] = {}
        self._scopes: dict[Any, str] = {}

    def statement(self, node: Any, times: int) -> None:
        """Count a statement that a thread runs so many times."""
        if isinstance(node, tirx.SeqStmt):
            for part in node.seq:
                self.statement(part, times)
        elif isinstance(node, tirx.AttrStmt):
            if node.attr_key == "thread_extent":
                self._values[node.node.var] = self._threads.get(str(node.node.thread_tag), 0)
            self.statement(node.body, times)
        elif isinstance(node, tirx.For):
            self._values[node.loop_var] = self._value(node.min)
            self.statement(node.body, times * int(node.extent))
        elif isinstance(node, tirx.IfThenElse):
            self._expression(node.condition, times)
            self.statement(node.then_case, times)
            if node.else_case is not None:
                self.statement(node.else_case, times)
        elif isinstance(node, tirx.BufferStore):
            self._expression(node.value, times)
            lanes = _lanes(node.value)
            self._access(node.buffer, node.indices, True, lanes, times)
        elif isinstance(node, tirx.Evaluate):
            self._expression(node.value, times)
        elif type(node).__name__ == "Bind":
            self._expression(node.value, times)
            self._values[node.var] = self._value(node.value)
        elif isinstance(node, (tirx.AllocBuffer, tirx.DeclBuffer)):
            body = getattr(node, "body", None)
            if body is not None:
                self.statement(body, times)

    def _expression(self, node: Any, times: int) -> None:
        def load(load: Any) -> None:
            self._access(load.source, load.indices, False, _lanes(load), times)

        def operation(node: Any) -> None:
            if _dtype(node).startswith("float"):
                self.flops += times * _lanes(node)

        def call(node: Any) -> None:
            name = str(getattr(node.op, "name", ""))
            if name in _MATRICES:
                self._matrices(name, times)
            elif not name.endswith(_FREE):
                operation(node)

        arithmetic = [(kind, operation) for kind in _ARITHMETIC]
        tvm_ffi.structural_walk(node, [(tvm.ir.TensorLoad, load), (tvm.ir.Call, call), *arithmetic])

    def _matrices(self, name: str, times: int) -> None:
        """The part of one thread in what a SIMD-group does with 8 × 8 matrices."""
        flops, moved = _MATRICES[name]
        self.flops += times * flops // self.wave
        if moved:
            self.accesses.append(Access(None, "store" in name, 4, moved // self.wave, True, times))

    def _access(self, buffer: Any, indices: Any, stored: bool, lanes: int, times: int) -> None:
        scope = str(buffer.scope())
        if scope.startswith(("local", "warp")):
            return
        itemsize = int(tvm_ffi.dtype(str(buffer.dtype)).itemsize) // int(tvm_ffi.dtype(str(buffer.dtype)).lanes)
        if scope != "global":
            self.accesses.append(Access(buffer, stored, itemsize, lanes, True, times))
            return
        if not any(known.same_as(buffer) for known in self.outside):
            self.outside.append(buffer)
        held = next(known for known in self.outside if known.same_as(buffer))
        places = np.unique(self._value(indices[0]))
        lines = len(np.unique(places * itemsize // LINE))
        adjacent = isinstance(indices[0], tirx.Ramp) and int(indices[0].stride) == 1
        self.accesses.append(Access(held, stored, itemsize, lanes, adjacent, times, lines, len(places) * itemsize))

    def _value(self, node: Any) -> Any:
        """An index expression at the start of every loop: a row per thread of the first wave, a column per lane.

        What depends on data is not known and counts as 0.
        """
        if isinstance(node, tirx.IntImm):
            return int(node.value)
        if isinstance(node, tvm.ir.Var):
            return self._values.get(node, 0)
        if isinstance(node, tirx.Ramp):
            return self._value(node.base) + int(node.stride) * np.arange(int(node.lanes))[None, :]
        if isinstance(node, tirx.Broadcast):
            return np.atleast_1d(self._value(node.value))[:, None]  # threads by lanes, like a ramp
        if isinstance(node, tirx.Cast):
            return self._value(node.value)
        for kind, function in _INTEGER.items():
            if isinstance(node, kind):
                return function(self._value(node.a), self._value(node.b))
        if isinstance(node, tvm.ir.Call):
            name = str(getattr(node.op, "name", ""))
            values = [self._value(arg) for arg in node.args]
            if name.endswith("shift_right"):
                return np.right_shift(*values)
            if name.endswith("shift_left"):
                return np.left_shift(*values)
            if name.endswith("bitwise_and"):
                return np.bitwise_and(*values)
            if name.endswith("if_then_else"):
                return np.where(values[0], values[1], values[2])
        return 0


def quotient(dividend: Any, divisor: Any) -> Any:
    """Of integers, rounded down; 0 where the divisor is not known."""
    return np.where(divisor == 0, 0, np.floor_divide(dividend, np.where(divisor == 0, 1, divisor)))


def remainder(dividend: Any, divisor: Any) -> Any:
    """Of a `quotient`."""
    return dividend - quotient(dividend, divisor) * divisor


_INTEGER: dict[Any, Callable[[Any, Any], Any]] = {
    tirx.Add: np.add,
    tirx.Sub: np.subtract,
    tirx.Mul: np.multiply,
    tirx.FloorDiv: quotient,
    tirx.FloorMod: remainder,
    tirx.Div: quotient,
    tirx.Mod: remainder,
    tirx.Min: np.minimum,
    tirx.Max: np.maximum,
    tirx.LT: np.less,
    tirx.LE: np.less_equal,
    tirx.GT: np.greater,
    tirx.GE: np.greater_equal,
    tirx.EQ: np.equal,
    tirx.NE: np.not_equal,
    tirx.And: np.logical_and,
    tirx.Or: np.logical_or,
}


def _dtype(node: Any) -> str:
    return str(getattr(getattr(node, "ty", None), "dtype", ""))


def _lanes(node: Any) -> int:
    return int(tvm_ffi.dtype(_dtype(node)).lanes) if _dtype(node) else 1

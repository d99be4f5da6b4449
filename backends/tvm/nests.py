"""Scheduled functions taken apart: one kernel per loop nest, with every temporary between nests in the open.

A fused function may need several launches, with intermediate results that TVM would allocate behind our back. Each nest
becomes a function of its own whose parameters are all buffers that it touches, so that the memory planner sees them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir.stmt import SBlock, SBlockRealize

_GLOBAL = "global"
_KEPT = ("tirx.noalias", "tirx.is_scheduled", "s_tir")


@dataclass(frozen=True)
class Buffer:
    """A parameter of a nest.

    Attributes:
        position: which parameter of the whole function, or, if `is_temporary`, which of its temporaries.
    """

    position: int
    is_temporary: bool
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Nest:
    """One loop nest of a scheduled function.

    Attributes:
        function: a TIR function whose parameters are `buffers`, called a00, a01, ….
        writes: the parameters that it writes.
        in_place: pairs (written, read) of parameters that may share their memory: each element of the result depends
            on no element of the operand but the one at its own place.
    """

    function: Any
    buffers: tuple[Buffer, ...]
    writes: tuple[int, ...]
    in_place: tuple[tuple[int, int], ...]


def nests(function: Any) -> Iterator[Nest]:
    """The nests of a scheduled function in the order in which they run."""
    root = function.body.block
    known = [(buffer, index, False) for index, buffer in enumerate(function.params)]
    shared = [buffer for buffer in root.alloc_buffers if str(buffer.scope()) == _GLOBAL]
    known += [(buffer, index, True) for index, buffer in enumerate(shared)]
    private = [buffer for buffer in root.alloc_buffers if str(buffer.scope()) != _GLOBAL]
    for body in root.body.seq if isinstance(root.body, tirx.SeqStmt) else [root.body]:
        yield _nest(function, body, known, private)


def _nest(function: Any, body: Any, known: list[tuple[Any, int, bool]], private: list[Any]) -> Nest:
    uses = _Uses(body)
    touched = [(buffer, position, temporary) for buffer, position, temporary in known if uses.touches(buffer)]
    buffers = [buffer for buffer, _, _ in touched]
    writes = tuple(index for index, buffer in enumerate(buffers) if uses.writes(buffer))
    return Nest(
        function=_function(function, body, buffers, [buffer for buffer in private if uses.touches(buffer)]),
        buffers=tuple(
            Buffer(position, temporary, str(buffer.dtype), tuple(int(extent) for extent in buffer.shape))
            for buffer, position, temporary in touched
        ),
        writes=writes,
        in_place=tuple(
            (written, read)
            for written in writes
            for read, operand in enumerate(buffers)
            if read not in writes and uses.may_overwrite(buffers[written], operand)
        ),
    )


def _function(whole: Any, body: Any, buffers: list[Any], private: list[Any]) -> Any:
    """The nest as a function.

    Its parameters have names of their own: TVM orders those of a GPU kernel by name. They may begin at any element, as
    parts of larger tensors do.
    """
    params = [
        tirx.decl_buffer(
            buffer.shape, buffer.dtype, f"a{index:02}", data_alignment=int(tvm_ffi.dtype(str(buffer.dtype)).itemsize)
        )
        for index, buffer in enumerate(buffers)
    ]
    renamed = list(zip(buffers, params, strict=True))

    def rename(var: Any) -> Any:
        return next((param for buffer, param in renamed if buffer.same_as(var)), var)

    body = tvm_ffi.structural_map(body, (tvm.ir.Var, rename))
    root = SBlockRealize([], True, SBlock([], [], [], "root", body, alloc_buffers=private))
    attributes = {key: whole.attrs[key] for key in _KEPT if key in whole.attrs}
    return tirx.PrimFunc(params, root).with_attr(attributes)


class _Uses:
    """Every load and store of a piece of TIR."""

    def __init__(self, body: Any) -> None:
        self._loads: list[Any] = []
        self._stores: list[Any] = []
        self._vars: list[Any] = []
        self._written: list[Any] = []
        self._loops: list[Any] = []
        self._analyzer = tvm.sym.Analyzer()

        def block(node: Any) -> None:
            self._written.extend(region.source for region in node.writes)
            for var in node.iter_vars:
                self._analyzer.bind(var.var, var.dom)

        def loop(node: Any) -> None:
            self._loops.append(node)
            self._analyzer.bind(node.loop_var, tvm.ir.Range.from_min_extent(node.min, node.extent))

        visits = [
            (tirx.For, loop),
            (tvm.ir.TensorLoad, self._loads.append),
            (tirx.BufferStore, self._stores.append),
            (tvm.ir.Var, self._vars.append),
            (SBlock, block),
        ]
        tvm_ffi.structural_walk(body, visits)

    def touches(self, buffer: Any) -> bool:
        return any(buffer.same_as(var) for var in self._vars)

    def writes(self, buffer: Any) -> bool:
        return any(buffer.same_as(other) for other in (*(store.buffer for store in self._stores), *self._written))

    def may_overwrite(self, result: Any, operand: Any) -> bool:
        """Whether `operand` is read only to write `result`, each element only at the place that it is written to."""
        stores = [store for store in self._stores if store.buffer.same_as(result)]
        loads = [load for load in self._loads if load.source.same_as(operand)]
        if not stores or not loads or any(load.source.same_as(result) for load in self._loads):
            return False
        if str(result.dtype) != str(operand.dtype) or _count(result) != _count(operand):
            return False
        if len(stores) > 1 and sum(map(self._times, stores)) != _count(result):
            return False  # one may write what another one reads
        inside = 0
        for store in stores:
            read: list[Any] = []
            tvm_ffi.structural_walk(store.value, (tvm.ir.TensorLoad, read.append))
            read = [load for load in read if load.source.same_as(operand)]
            place = _place(result, store)
            if not all(self._same(_place(operand, load), place) for load in read):
                return False
            inside += len(read)
        return inside == len(loads)

    def _times(self, store: Any) -> int:
        """How often a store runs at most. Where all of a result's together run once per element, no two write one."""
        times = 1
        for loop in self._loops:
            inside: list[Any] = []
            tvm_ffi.structural_walk(loop.body, (tirx.BufferStore, inside.append))
            if any(store.same_as(other) for other in inside):
                times *= int(loop.extent)
        return times

    def _same(self, left: Any, right: Any) -> bool:
        return bool(tvm_ffi.structural_equal(left, right) or self._analyzer.can_prove_equal(left, right))


def _count(buffer: Any) -> int:
    return math.prod(int(extent) for extent in buffer.shape)


def _place(buffer: Any, access: Any) -> Any:
    """Which of its elements an access touches, counted row by row: views of one memory have different indices."""
    place: Any = tirx.const(0, "int32")
    for index, extent in zip(access.indices, buffer.shape, strict=True):
        if int(extent) != 1:
            place = place * int(extent) + index
    return place

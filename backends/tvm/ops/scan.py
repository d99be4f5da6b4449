"""Operators that walk along a dimension in order: one kernel whose threads each take one line.

A line is everything along the dimension at one position of the others. Lines are independent, so no two threads write
the same element and the result is the same on every run.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import tvm
from tvm import s_tir
from tvm.script import tirx as T

from penstock.backends.tvm.ops.emit import Emit, Expr, axis, dtype_of, shape_of
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten
_THREADS = 64


@lowers(aten.cumsum.default)
def cumsum(emit: Emit, x: Expr, dim: int) -> Expr:
    """The sum of all elements up to each one; float16 accumulates in float32."""
    shape = shape_of(x)
    if not shape:
        return emit.cast(x, emit.dtype)
    lines = as_lines(shape, axis(dim, len(shape)))
    function = one_thread_per_line(_running_sum(*lines, dtype_of(x), emit.wide, emit.dtype, private_scope()))
    x = emit.reshape(x, lines)
    return emit.reshape(emit.kernel(function, x, name="cumsum", shape=lines, dtype=emit.dtype), shape)


def as_lines(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """A shape as (before, along, after) one dimension."""
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])


def on_gpu() -> bool:
    """Whether the current target is a GPU."""
    target = tvm.target.Target.current(allow_none=True)
    return target is not None and "gpu" in target.keys


def private_scope() -> str:
    """Where a thread of the current target keeps what is its own.

    On a CPU that is the scope that TVM puts on the stack when it is small; "local" would come from the heap.
    """
    return "local" if on_gpu() else "global"


def one_thread_per_line(function: Any) -> Any:
    """Schedule a TIR function whose one block is called ``line``: a thread (on a CPU, a task) per instance.

    The block's body walks along the line, which automatic schedules do not understand, so it is marked as scheduled.
    Without a current target the function stays as it is.
    """
    target = tvm.target.Target.current(allow_none=True)
    if target is None:
        return function
    schedule = s_tir.Schedule(function)
    lines = schedule.fuse(*schedule.get_loops(schedule.get_sblock("line")))
    if "gpu" in target.keys:
        block, thread = schedule.split(lines, [None, _THREADS])
        schedule.bind(block, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
    else:
        schedule.parallel(lines)
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


@cache
def _running_sum(before: int, along: int, after: int, dtype: str, accumulator: str, result: str, private: str) -> Any:
    @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
    def cumsum(source: T.handle, target: T.handle):  # type: ignore[no-untyped-def]
        x = T.match_buffer(source, (before, along, after), dtype)
        y = T.match_buffer(target, (before, along, after), result)
        for i, j in T.grid(before, after):
            with T.sblock("line"):
                vi, vj = T.axis.remap("SS", [i, j])
                T.reads(x[vi, 0:along, vj])
                T.writes(y[vi, 0:along, vj])
                running = T.alloc_buffer((1,), accumulator, scope=private)
                running[0] = T.cast(0, accumulator)
                for k in range(along):
                    running[0] = running[0] + T.cast(x[vi, k, vj], accumulator)
                    y[vi, k, vj] = T.cast(running[0], result)

    return cumsum

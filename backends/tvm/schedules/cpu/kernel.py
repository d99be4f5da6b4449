"""The frame of a kernel: a function's parameters, and a loop over tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import s_tir
from tvm.script import tirx as T
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.cpu.tile import Expr

_MIN_PARALLEL = 500_000
"""Multiply-adds below which waking other threads costs more than they save."""
_CORES = 8
"""Work is cut so that up to so many cores have equal shares."""


def built(function: Any, emit: Callable[[], None]) -> Any:
    """The schedule of a function with the parameters and attributes of another, and the body that `emit` builds."""
    attributes: Mapping[str, Any] = dict(function.attrs.items()) if function.attrs else {}
    with IRBuilder() as builder, build.prim_func(s_tir=True):
        build.func_name("main")
        build.func_attr(attributes)
        for param in function.params:
            build.arg(str(param.name), param)
        with build.sblock("root"):
            build.reads([])
            build.writes([])
            emit()
    return s_tir.Schedule(tvm.IRModule({"main": builder.get()}))


def cores(work: int) -> int:
    """On how many cores so many multiply-adds are worth spreading: on as many as phones and laptops have, or on one."""
    return _CORES if work >= _MIN_PARALLEL else 1


@contextmanager
def tasks(count: int, work: int) -> Iterator[Expr]:
    """A loop over independent tasks, on all threads if they are worth it.

    Args:
        work: multiply-adds of all tasks together.
    """
    loop = build.parallel if count > 1 and cores(work) > 1 else build.serial
    with loop(T.int64(0), T.int64(count)) as task:
        yield task

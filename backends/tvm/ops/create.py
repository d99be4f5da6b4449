"""Operators that make a tensor from numbers."""

from __future__ import annotations

from typing import Any

import torch
from tvm import relax, te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, Number, Var, is_float
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten


@lowers(aten.full.default, aten.full_like.default, aten.new_full.default)
def full(emit: Emit, *arguments: Any) -> Expr:
    """One number everywhere; it is the last argument."""
    return emit.full(arguments[-1], emit.shape, emit.dtype)


@lowers(aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(emit: Emit, *_: Any) -> Expr:
    """One everywhere."""
    return emit.full(1, emit.shape, emit.dtype)


@lowers(
    aten.zeros.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten.empty.memory_format,
    aten.empty_permuted.default,
    aten.empty_like.default,
    aten.new_empty.default,
)
def zeros(emit: Emit, *_: Any) -> Expr:
    """Zero everywhere. A tensor without defined contents is zero too, so that runs are the same."""
    return emit.full(0, emit.shape, emit.dtype)


@lowers(aten.scalar_tensor.default)
def scalar_tensor(emit: Emit, value: Number) -> Expr:
    """A rank-0 tensor."""
    return emit.full(value, emit.shape, emit.dtype)


@lowers(aten.arange.default)
def arange(emit: Emit, end: Number) -> Var:
    """0, 1, 2 … below `end`."""
    return _progression(emit, 0, 1)


@lowers(aten.arange.start, aten.arange.start_step)
def arange_from(emit: Emit, start: Number, end: Number, step: Number = 1) -> Var:
    """From `start` by `step`; computed, so that no constant is stored."""
    return _progression(emit, start, step)


def _progression(emit: Emit, start: Number, step: Number) -> Var:
    dtype = emit.wide if is_float(emit.dtype) else "int64"

    def compute() -> te.Tensor:
        return te.compute(
            emit.shape,
            lambda i: (tirx.const(start, dtype) + i.astype(dtype) * tirx.const(step, dtype)).astype(emit.dtype),
            name="arange",
        )

    return emit.te(compute, name="arange")


@lowers(aten.eye.default, aten.eye.m)
def eye(emit: Emit, rows: int, columns: int | None = None) -> Var:
    """One on the diagonal, zero elsewhere."""
    return emit(relax.op.eye(rows, columns if columns is not None else rows, 0, emit.dtype))

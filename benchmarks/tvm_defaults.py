"""Programs compiled with TVM's own GPU schedules, through penstock's launch path: what ours are measured against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import tvm
from tvm import relax
from tvm.s_tir import dlight

from penstock.backends.tvm.ops.emit import constant, dtype_of, shape_of
from penstock.passes.core.program import Program


def default_rules(target: tvm.target.Target) -> Any:
    """The rules of TVM's pipeline for any GPU, in its order."""
    rules = [dlight.gpu.Matmul(), dlight.gpu.GEMV(), dlight.gpu.Reduction(), dlight.gpu.GeneralReduction()]
    return dlight.ApplyDefaultSchedule(*rules, dlight.gpu.Fallback())


@contextlib.contextmanager
def tvm_defaults() -> Iterator[None]:
    """Compile with TVM's operators and schedules: no weight is packed, attention is two products and a softmax."""
    ops = "penstock.backends.tvm.ops"
    with (
        mock.patch("penstock.backends.tvm.pipeline.rules_for", default_rules),
        mock.patch("penstock.backends.tvm.build.pack_weights", _unpacked),
        mock.patch(f"{ops}.conv.on_gpu", return_value=False),
        mock.patch(f"{ops}.contract.on_gpu", return_value=False),
        mock.patch(f"{ops}.attention.emit_attention", _attention),
    ):
        yield


def _attention(
    builder: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    *,
    scale: float,
    causal: bool,
    result: Sequence[int] = (0, 1, 2, 3),
) -> Any:
    """Stored scores, as TVM's importer writes attention."""
    emit, dtype = builder.emit, dtype_of(query)
    scores = emit(relax.op.matmul(query, emit(relax.op.permute_dims(key, [0, 1, 3, 2])), out_dtype="float32"))
    scores = emit(relax.op.multiply(scores, constant(scale, "float32")))
    if mask is not None:
        scores = emit(relax.op.add(scores, emit(relax.op.astype(mask, "float32"))))
    if causal:
        rows = shape_of(scores)[-2:]
        allowed = emit(relax.op.tril(emit(relax.op.ones(rows, "float32"))))
        hidden = emit(
            relax.op.multiply(emit(relax.op.subtract(allowed, constant(1, "float32"))), constant(1e9, "float32"))
        )
        scores = emit(relax.op.add(scores, hidden))
    weights = emit(relax.op.astype(emit(relax.op.nn.softmax(scores, -1)), dtype))
    attended = emit(relax.op.astype(emit(relax.op.matmul(weights, value, out_dtype="float32")), dtype))
    return emit(relax.op.permute_dims(attended, list(result))) if list(result) != [0, 1, 2, 3] else attended


def _unpacked(program: Program) -> Program:
    return program

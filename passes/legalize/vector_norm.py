"""Vector norms as a reduction of magnitudes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class VectorNorm(RewritePass):
    """Write `linalg_vector_norm` as elementwise arithmetic and one reduction.

    What: order 2 is a root of a sum of squares, 1 a sum of magnitudes, ±∞ the largest and smallest magnitude, 0 a count
    of what is not zero, and any other order ``(Σ|x|^p)^(1/p)``. Half precision is summed in float32, as torch does.

    Given::

        norm = linalg_vector_norm(x, 2, [1], True)          f32[2, 1, 8]

    Result::

        norm_mul = mul(x, x)                                f32[2, 4, 8]
        norm_sum = sum.dim_IntList(norm_mul, [1], True)     f32[2, 1, 8]
        norm = sqrt(norm_sum)                               f32[2, 1, 8]

    Options: none.

    Exactness: exact up to rounding.
    """

    operators: ClassVar[Operators] = (aten.linalg_vector_norm.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The reduction for the order at hand."""
        now = arguments_of(node)
        x, order, keep = now["self"], now["ord"], now["keepdim"]
        dims = list(range(len(shape_of(x)))) if now["dim"] is None else list(now["dim"])
        result_dtype = dtype_of(node)
        wide = torch.float32 if result_dtype in (torch.float16, torch.bfloat16) else result_dtype
        if dtype_of(x) != wide:
            x = emit(aten._to_copy.default, x, dtype=wide)
        result = _norm(emit, x, float(order), dims, keep)
        return result if wide == result_dtype else emit(aten._to_copy.default, result, dtype=result_dtype)


def _norm(emit: Emitter, x: Node, order: float, dims: list[int], keep: bool) -> Node:
    if order == 2:
        return emit(aten.sqrt.default, emit(aten.sum.dim_IntList, emit(aten.mul.Tensor, x, x), dims, keep))
    if order == 0:
        marks = emit(aten._to_copy.default, emit(aten.ne.Scalar, x, 0), dtype=dtype_of(x))
        return emit(aten.sum.dim_IntList, marks, dims, keep)
    magnitude = emit(aten.abs.default, x)
    if math.isinf(order):
        return emit(aten.amax.default if order > 0 else aten.amin.default, magnitude, dims, keep)
    if order == 1:
        return emit(aten.sum.dim_IntList, magnitude, dims, keep)
    total = emit(aten.sum.dim_IntList, emit(aten.pow.Tensor_Scalar, magnitude, order), dims, keep)
    return emit(aten.pow.Tensor_Scalar, total, 1 / order)

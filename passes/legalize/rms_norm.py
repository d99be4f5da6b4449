"""Root mean square normalisation as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of

aten = torch.ops.aten

_HALF = (torch.float16, torch.bfloat16)


@register
@dataclass(frozen=True)
class DecomposeRmsNorm(RewritePass):
    """Write `rms_norm` as the arithmetic it stands for.

    What: ``x / sqrt(mean(x²) + eps) · weight`` over the last dimensions. A half-precision operand is computed in
    float32 and cast back at the end, as torch does; an `eps` of None is the float32 machine epsilon.

    Given::

        rms_norm = rms_norm(x, [8], weight, 1e-06)                  f32[2, 6, 8]

    Result::

        rms_norm_pow = pow.Tensor_Scalar(x, 2)                      f32[2, 6, 8]
        rms_norm_mean = mean.dim(rms_norm_pow, [2], True)           f32[2, 6, 1]
        rms_norm_add = add(rms_norm_mean, 1e-06)                    f32[2, 6, 1]
        rms_norm_rsqrt = rsqrt(rms_norm_add)                        f32[2, 6, 1]
        rms_norm_mul = mul(x, rms_norm_rsqrt)                       f32[2, 6, 8]
        rms_norm = mul(rms_norm_mul, weight)                        f32[2, 6, 8]

    Options: none.

    Exactness: exact up to rounding, in the order of torch's own arithmetic.

    Source: B. Zhang and R. Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.
    """

    operators: ClassVar[Operators] = (aten.rms_norm.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The arithmetic of one `rms_norm`."""
        now = arguments_of(node)
        x, weight, eps = now["input"], now["weight"], now["eps"]
        dtype = dtype_of(x)
        half = dtype in _HALF
        if half:
            x = emit(aten._to_copy.default, x, dtype=torch.float32)
        if eps is None:
            eps = torch.finfo(dtype_of(x)).eps
        rank = node.meta["val"].dim()
        dims = list(range(rank - len(now["normalized_shape"]), rank))
        mean = emit(aten.mean.dim, emit(aten.pow.Tensor_Scalar, x, 2), dims, True)
        result = emit(aten.mul.Tensor, x, emit(aten.rsqrt.default, emit(aten.add.Tensor, mean, eps)))
        if weight is not None:
            if half:
                weight = emit(aten._to_copy.default, weight, dtype=torch.float32)
            result = emit(aten.mul.Tensor, result, weight)
        return emit(aten._to_copy.default, result, dtype=dtype_of(node)) if half else result

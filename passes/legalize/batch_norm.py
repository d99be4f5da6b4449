"""Batch normalisation at inference as one multiplication and one addition."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class AffineBatchNorm(RewritePass):
    """Write batch norm with fixed statistics as ``x · scale + shift``.

    What: ``scale = weight / sqrt(variance + eps)`` and ``shift = bias - mean · scale`` read weights only, so constant
    folding makes them two constants of one value a channel.

    Given::

        bn = _native_batch_norm_legit_no_training(x, w, b, mean, var, 0.1, 1e-05)   (f32[2, 4, 8, 8], f32[0], f32[0])
        getitem = getitem(bn, 0)                                                    f32[2, 4, 8, 8]

    Result::

        bn_add = add(var, 1e-05)                                                    f32[4]
        bn_rsqrt = rsqrt(bn_add)                                                    f32[4]
        bn_mul = mul(bn_rsqrt, w)                                                   f32[4]
        bn_mul_1 = mul(mean, bn_mul)                                                f32[4]
        bn_sub = sub(b, bn_mul_1)                                                   f32[4]
        bn_view = view(bn_mul, [4, 1, 1])                                           f32[4, 1, 1]
        bn_mul_2 = mul(x, bn_view)                                                  f32[2, 4, 8, 8]
        bn_view_1 = view(bn_sub, [4, 1, 1])                                         f32[4, 1, 1]
        getitem = add(bn_mul_2, bn_view_1)                                          f32[2, 4, 8, 8]

    Options: none.

    Exactness: exact up to rounding; a half-precision operand is computed in the type of the statistics, as torch does.

    Source: S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015, section 3.1.
    """

    operators: ClassVar[Operators] = (aten._native_batch_norm_legit_no_training.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The affine map per channel."""
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
            return Refusal("its saved statistics are read")
        now = arguments_of(node)
        x, mean = now["input"], now["running_mean"]
        wide = dtype_of(mean)
        scale = emit(aten.rsqrt.default, emit(aten.add.Tensor, now["running_var"], now["eps"]))
        if now["weight"] is not None:
            scale = emit(aten.mul.Tensor, scale, _cast(emit, now["weight"], wide))
        shift = emit(aten.mul.Tensor, mean, scale)
        if now["bias"] is not None:
            shift = emit(aten.sub.Tensor, _cast(emit, now["bias"], wide), shift)
        else:
            shift = emit(aten.neg.default, shift)
        column = [shape_of(x)[1], *[1] * (len(shape_of(x)) - 2)]
        scaled = emit(aten.mul.Tensor, _cast(emit, x, wide), emit(aten.view.default, scale, column))
        result = emit(aten.add.Tensor, scaled, emit(aten.view.default, shift, column))
        return [_cast(emit, result, dtype_of(x))]


def _cast(emit: Emitter, value: Node, dtype: torch.dtype) -> Node:
    return value if dtype_of(value) == dtype else emit(aten._to_copy.default, value, dtype=dtype)

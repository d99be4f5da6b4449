"""Operands of one dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of

aten = torch.ops.aten

_IN_RESULT_DTYPE = (
    # arithmetic; true division and `atan2` of integers are floating point, and the result says so
    aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, aten.mul.Tensor, aten.mul.Scalar,
    aten.div.Tensor, aten.div.Scalar, aten.div.Tensor_mode, aten.div.Scalar_mode,
    aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.pow.Scalar, aten.remainder.Tensor, aten.remainder.Scalar,
    aten.fmod.Tensor, aten.fmod.Scalar, aten.maximum.default, aten.minimum.default, aten.atan2.default,
    aten.bitwise_and.Tensor, aten.bitwise_and.Scalar, aten.bitwise_or.Tensor, aten.bitwise_or.Scalar,
    aten.bitwise_xor.Tensor, aten.bitwise_xor.Scalar,
    # choice and joining
    aten.where.self, aten.clamp.default, aten.clamp.Tensor, aten.clamp_min.default, aten.clamp_max.default,
    aten.cat.default, aten.stack.default,
    # functions of one operand that are floating point for integers
    aten.reciprocal.default, aten.sqrt.default, aten.rsqrt.default, aten.exp.default, aten.exp2.default,
    aten.expm1.default, aten.log.default, aten.log2.default, aten.log1p.default, aten.erf.default,
    aten.sin.default, aten.cos.default, aten.tan.default, aten.asin.default, aten.acos.default, aten.atan.default,
    aten.sinh.default, aten.cosh.default, aten.tanh.default, aten.asinh.default, aten.acosh.default,
    aten.atanh.default, aten.sigmoid.default,
    # reductions, which may name a dtype, and widen integers
    aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten.prod.default, aten.prod.dim_int,
    aten.cumsum.default, aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default,
)  # fmt: skip

_COMPARISONS = (
    aten.eq.Tensor, aten.eq.Scalar, aten.ne.Tensor, aten.ne.Scalar, aten.lt.Tensor, aten.lt.Scalar,
    aten.le.Tensor, aten.le.Scalar, aten.gt.Tensor, aten.gt.Scalar, aten.ge.Tensor, aten.ge.Scalar,
)  # fmt: skip

_TRUTH = (aten.logical_not.default, aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default)

_RESTATED = {"dtype": None, "half_to_float": False}
"""Arguments that ask for another dtype of the result, and their value that asks for none."""


@register
@dataclass(frozen=True)
class ExplicitPromotion(RewritePass):
    """Cast operands until every operator computes in the dtype of its operands.

    What: torch promotes as it computes: an integer ramp meets a float, a comparison mixes both, a cosine of integers is
    floating point, a sum names a wider dtype. Afterwards each of these is a `_to_copy`, and no back end has to know
    torch's rules. A Python number takes the dtype of the tensor beside it.

    Given::

        cos = cos(ramp)                             f32[4]     (ramp i64[4])
        mul = mul(ramp, half)                       f16[4]     (half f16[4])

    Result::

        cos_to_copy = _to_copy(ramp, dtype=float32) f32[4]
        cos = cos(cos_to_copy)                      f32[4]
        mul_to_copy = _to_copy(ramp, dtype=float16) f16[4]
        mul = mul(mul_to_copy, half)                f16[4]

    Options: none.

    Exactness: exact up to rounding. A tensor without dimensions loses what the half-precision tensor beside it cannot
    hold; torch's own kernels differ there.

    Source: the promotion rules of torch (``torch.result_type``).
    """

    operators: ClassVar[Operators] = (*_IN_RESULT_DTYPE, *_COMPARISONS, *_TRUTH)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The same operator on operands of the dtype it computes in."""
        now = arguments_of(node)
        dtype = _computed_in(node, now)
        changes = {name: _cast(emit, value, dtype) for name, value in now.items() if name != "condition"}
        if dtype.is_floating_point or dtype == torch.int64:  # a sum of narrower integers has to name its dtype
            changes.update({name: neutral for name, neutral in _RESTATED.items() if name in now})
        changes = {name: value for name, value in changes.items() if value is not now[name]}
        return emit.changed(node, changes) if changes else None


def _computed_in(node: Node, arguments: dict[str, Any]) -> torch.dtype:
    if node.target in _TRUTH:
        return torch.bool
    if node.target in _COMPARISONS:
        left, right = (value.meta["val"] if isinstance(value, Node) else value for value in arguments.values())
        return torch.result_type(left, right)
    return dtype_of(node)


def _cast(emit: Emitter, value: Any, dtype: torch.dtype) -> Any:
    """A tensor, or each of a list of tensors, in `dtype`; the very same object where it is so already."""
    if isinstance(value, Node):
        return value if dtype_of(value) == dtype else emit(aten._to_copy.default, value, dtype=dtype)
    if isinstance(value, (list, tuple)) and any(isinstance(item, Node) and dtype_of(item) != dtype for item in value):
        return [_cast(emit, item, dtype) for item in value]
    return value

"""Rare elementwise operators in terms of common ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class RareElementwise(RewritePass):
    """Write `hypot`, `copysign`, `signbit`, `fmax`, `fmin` and `log10` with the operators that back ends have.

    What: `hypot` is scaled by the larger magnitude, so that nothing overflows on the way; the sign of a zero is that of
    its reciprocal; `fmax` and `fmin` take the other number where one is NaN.

    Given::

        log10 = log10(x)                        f32[2, 4]

    Result::

        log10_log = log(x)                      f32[2, 4]
        log10 = mul(log10_log, 0.4342944819032518)    f32[2, 4]

    Options: none.

    Exactness: exact up to rounding. A NaN counts as positive, whatever its sign. Integers are refused.
    """

    operators: ClassVar[Operators] = (
        aten.hypot.default, aten.copysign.Tensor, aten.signbit.default, aten.fmax.default, aten.fmin.default,
        aten.log10.default,
    )  # fmt: skip

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The operator's formula."""
        operands = [value for value in arguments_of(node).values() if isinstance(value, Node)]
        if not all(dtype_of(value).is_floating_point for value in operands):
            return Refusal("its operands are integers")
        return _FORMULAS[node.target](emit, *operands)


def _hypot(emit: Emitter, x: Node, y: Node) -> Node:
    x, y = emit(aten.abs.default, x), emit(aten.abs.default, y)
    large, small = emit(aten.maximum.default, x, y), emit(aten.minimum.default, x, y)
    ratio = emit(aten.div.Tensor, small, large)
    root = emit(aten.sqrt.default, emit(aten.add.Scalar, emit(aten.mul.Tensor, ratio, ratio), 1))
    # 0 / 0 and ∞ / ∞ have no ratio; there the larger magnitude is the result.
    whole = emit(aten.logical_or.default, emit(aten.eq.Scalar, large, 0), emit(aten.isinf.default, large))
    return emit(aten.where.self, whole, large, emit(aten.mul.Tensor, large, root))


def _signbit(emit: Emitter, x: Node) -> Node:
    """Below zero, or the zero whose reciprocal is -∞."""
    zero = emit(aten.eq.Scalar, x, 0)
    below = emit(aten.lt.Scalar, emit(aten.reciprocal.default, x), 0)
    return emit(aten.logical_or.default, emit(aten.lt.Scalar, x, 0), emit(aten.logical_and.default, zero, below))


def _copysign(emit: Emitter, x: Node, sign: Node) -> Node:
    size = emit(aten.abs.default, x)
    return emit(aten.where.self, _signbit(emit, sign), emit(aten.neg.default, size), size)


def _log10(emit: Emitter, x: Node) -> Node:
    return emit(aten.mul.Scalar, emit(aten.log.default, x), 1 / math.log(10))


def _number_of(extremum: Any) -> Callable[[Emitter, Node, Node], Node]:
    def rewrite(emit: Emitter, x: Node, y: Node) -> Node:
        both = emit(extremum, x, y)
        x_else = emit(aten.where.self, emit(aten.isnan.default, y), x, both)
        return emit(aten.where.self, emit(aten.isnan.default, x), y, x_else)

    return rewrite


_FORMULAS: dict[Any, Callable[..., Node]] = {
    aten.hypot.default: _hypot,
    aten.copysign.Tensor: _copysign,
    aten.signbit.default: _signbit,
    aten.fmax.default: _number_of(aten.maximum.default),
    aten.fmin.default: _number_of(aten.minimum.default),
    aten.log10.default: _log10,
}

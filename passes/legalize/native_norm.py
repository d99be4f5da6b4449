"""Norms without the statistics that only a backward pass reads."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class NativeNormToNorm(RewritePass):
    """Write `native_layer_norm` and `native_group_norm` as `layer_norm` and `group_norm`.

    What: the native forms also return the mean and the reciprocal deviation. Where nothing reads them, the plain form
    says the same, and keeps the norm whole.

    Given::

        native_layer_norm = native_layer_norm(x, [8], w, b, 1e-05)      (f32[2, 8], f32[2, 1], f32[2, 1])
        getitem = getitem(native_layer_norm, 0)                         f32[2, 8]

    Result::

        getitem = layer_norm(x, [8], w, b, 1e-05)                       f32[2, 8]

    Options: none.

    Exactness: exact. A norm whose statistics are read is refused.
    """

    operators: ClassVar[Operators] = (aten.native_layer_norm.default, aten.native_group_norm.default)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The plain norm."""
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
            return Refusal("its mean or deviation is read")
        now = arguments_of(node)
        affine = (now["weight"], now["bias"], now["eps"])
        if node.target is aten.native_layer_norm.default:
            return [emit(aten.layer_norm.default, now["input"], now["normalized_shape"], *affine)]
        return [emit(aten.group_norm.default, now["input"], now["group"], *affine)]

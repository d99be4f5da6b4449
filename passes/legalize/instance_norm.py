"""Instance normalisation as group normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@register
@dataclass(frozen=True)
class InstanceNormToGroupNorm(RewritePass):
    """Write `instance_norm` as `group_norm` with one channel a group.

    Given::

        instance_norm = instance_norm(x, weight, bias, None, None, True, 0.1, 1e-05, True)     f32[2, 4, 8, 8]

    Result::

        instance_norm = group_norm(x, 4, weight, bias, 1e-05)                                  f32[2, 4, 8, 8]

    Options: none.

    Exactness: exact up to rounding. An instance norm that reads running statistics is refused.

    Source: Y. Wu and K. He, "Group Normalization", ECCV 2018, section 3.
    """

    operators: ClassVar[Operators] = (aten.instance_norm.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The group norm that computes the same."""
        now = arguments_of(node)
        if not now["use_input_stats"]:
            return Refusal("it normalises by running statistics, which is a batch norm")
        channels = shape_of(now["input"])[1]
        return emit(aten.group_norm.default, now["input"], channels, now["weight"], now["bias"], now["eps"])

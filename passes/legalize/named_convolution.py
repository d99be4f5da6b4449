"""The general convolution by its proper name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten

_FORWARD: dict[int, Any] = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
_TRANSPOSED: dict[int, Any] = {
    1: aten.conv_transpose1d.default,
    2: aten.conv_transpose2d.input,
    3: aten.conv_transpose3d.input,
}


@register
@dataclass(frozen=True)
class NamedConvolution(RewritePass):
    """Write `convolution` as the `conv1d` … `conv_transpose3d` that it is.

    What: torch leaves the general form where a convolution was padded by name (``padding="same"``).

    Given::

        convolution = convolution(x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)     f32[2, 3, 8, 8]

    Result::

        convolution = conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1)                         f32[2, 3, 8, 8]

    Options: none.

    Exactness: exact, the same operator.
    """

    operators: ClassVar[Operators] = (aten.convolution.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The convolution of the operand's rank."""
        now = arguments_of(node)
        rank = len(shape_of(now["input"])) - 2
        if rank not in _FORWARD:
            return Refusal(f"it slides over {rank} dimension(s); only 1 to 3 have a name")
        operands = (now["input"], now["weight"], now["bias"], now["stride"], now["padding"])
        if now["transposed"]:
            return emit(_TRANSPOSED[rank], *operands, now["output_padding"], now["groups"], now["dilation"])
        return emit(_FORWARD[rank], *operands, now["dilation"], now["groups"])

"""bfloat16, which phone GPUs lack, in another type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from penstock.passes.core.base import Exactness, Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.legalize.retype import retype


@register
@dataclass(frozen=True)
class Bfloat16ToFloat32(Pass):
    """Put weights, values, inputs and outputs of bfloat16 into float32 or float16.

    What: most models are published in bfloat16; phone GPUs compute in float32 and float16.

    Given::

        in   x                                      bf16[2, 8]
        w    weight                                 bf16[8, 8]
        linear = linear(x, weight)                  bf16[2, 8]

    Result::

        in   x                                      f32[2, 8]
        w    weight                                 f32[8, 8]
        linear = linear(x, weight)                  f32[2, 8]

    Options:
        to: ``float32`` holds every bfloat16 number, and results are the more precise for it. ``float16`` is as small
            as bfloat16 and more precise, but ends at 65504: larger weights and constants become that, and larger
            activations overflow.

    Exactness: lossy, since the border of the program changes its type and values are no longer rounded to 8 bits. A
    program without bfloat16 stays as it is.
    """

    exactness: ClassVar[Exactness] = "lossy"

    to: Literal["float32", "float16"] = "float32"

    def run(self, program: Program, context: Context) -> Program:
        """Convert all graphs and the signature."""
        return retype(program, {torch.bfloat16: getattr(torch, self.to)}, self.name())

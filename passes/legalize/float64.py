"""Double precision, which phone GPUs lack, in single."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from penstock.passes.core.base import Exactness, Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.legalize.retype import retype


@register
@dataclass(frozen=True)
class Float64ToFloat32(Pass):
    """Put weights, values, inputs and outputs of float64 into float32, and complex128 into complex64.

    What: video transformers compute the angles of their position embeddings in float64. Fold constants first: what
    depends on no input is then computed in float64 here and only its result is rounded.

    Given::

        arange = arange.start_step(0, 4, dtype=float64)     f64[4]
        cos = cos(arange)                                   f64[4]

    Result::

        arange = arange.start_step(0, 4, dtype=float32)     f32[4]
        cos = cos(arange)                                   f32[4]

    Options: none.

    Exactness: lossy by the rounding of single precision. A program without double precision stays as it is.
    """

    exactness: ClassVar[Exactness] = "lossy"

    def run(self, program: Program, context: Context) -> Program:
        """Convert all graphs and the signature."""
        return retype(program, {torch.float64: torch.float32, torch.complex128: torch.complex64}, self.name())

"""Weights of matrix products in the order in which a CPU's kernel reads them, fixed at compile time.

A packed weight is the matrix cut into panels of columns; within a panel, what one step along the depth needs lies side
by side::

    [columns, depth]   ->   panel 0: depth × (32 columns), panel 1: …, last panel: depth × (the columns left)

It is a permutation: it has exactly as many bytes as the weight, and takes its place in the artifact. A weight that
something else reads too (an embedding that is also the last layer) is stored in both forms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tvm
from torch.fx import Node

from penstock.backends.tvm.schedules.cpu.matmul import PANEL_VECTORS
from penstock.backends.tvm.schedules.cpu.tile import Registers

aten = torch.ops.aten

_AS_COLUMNS = {aten.linear.default: 1}
"""By operator, the argument that is a matrix of [columns, depth]."""
_AS_ROWS = {aten.matmul.default: 1, aten.mm.default: 1, aten.addmm.default: 2}
"""By operator, the argument that is a matrix of [depth, columns]."""
_DTYPES = (torch.float16, torch.float32)


@dataclass(frozen=True)
class Panels:
    """How weights are packed.

    Attributes:
        columns: of a panel.
    """

    columns: int

    @classmethod
    def of(cls, target: tvm.target.Target | None) -> Panels | None:
        """Those of a target's kernels; None where they read weights as they are."""
        if target is None or target.kind.name != "llvm":
            return None
        return cls(PANEL_VECTORS * Registers.of(target).lanes)

    @classmethod
    def current(cls) -> Panels | None:
        """Those of the target at hand."""
        return cls.of(tvm.target.Target.current(allow_none=True))

    def name(self, weight: str, user: Node) -> str:
        """What the packed form for a user is called."""
        return f"{weight}.{'transposed.' if user.target in _AS_ROWS else ''}panels{self.columns}"

    def packed(self, weight: torch.Tensor, user: Node) -> torch.Tensor:
        """A matrix in panels, as one line of numbers."""
        columns = weight.t() if user.target in _AS_ROWS else weight
        panels = torch.split(columns.detach(), self.columns)
        return torch.cat([panel.t().reshape(-1) for panel in panels])


def reads_panels(user: Node, weight: Node, tensor: torch.Tensor) -> bool:
    """Whether a node's kernel reads a weight in panels: as the matrix of a product, and as nothing else."""
    position = {**_AS_COLUMNS, **_AS_ROWS}.get(user.target)  # type: ignore[call-overload]
    if position is None or tensor.dim() != 2 or tensor.dtype not in _DTYPES or not tensor.numel():
        return False
    places = [at for at, argument in enumerate(user.args) if argument is weight]
    return places == [position] and weight not in user.kwargs.values()

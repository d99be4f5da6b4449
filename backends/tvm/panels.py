"""Weights of matrix products in the order in which a CPU's kernel reads them, fixed at compile time.

A packed weight is the matrix cut into panels of columns; within a panel, what one step along the depth needs lies side
by side::

    [columns, depth]   ->   panel 0: depth × (32 columns), panel 1: …, last panel: depth × (the columns left)

It is a permutation: it has exactly as many bytes as the weight, and takes its place in the artifact. An embedding whose
table is also the weight of a linear layer finds its rows in the panels; a weight that anything else reads too is stored
in both forms.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from torch.fx import Node
from tvm import tirx

from penstock.backends.tvm.schedules.cpu.matmul import PANEL_VECTORS
from penstock.backends.tvm.schedules.cpu.tile import Registers
from penstock.passes.core.program import Program, attribute

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

    def place(self, columns: int, depth: int, column: Any, k: Any) -> Any:
        """Where an element of a matrix lies in its packed form, as an expression of TIR."""
        panel, within = tirx.floordiv(column, self.columns), tirx.floormod(column, self.columns)
        last, rest = divmod(columns, self.columns)
        width = tirx.if_then_else(panel < last, self.columns, rest)
        return panel * (self.columns * depth) + k * width + within


def tied_weights(program: Program) -> Set[str]:
    """The names of the weights that are both the matrix of linear layers and the table of embeddings, and nothing else.

    Only where the target at hand has panels.
    """
    forms: dict[str, set[str]] = {}
    for module in program.graphs.values() if Panels.current() is not None else ():
        for node in module.graph.find_nodes(op="get_attr"):
            tensor = attribute(module, str(node.target))
            forms.setdefault(str(node.target), set()).update(_form(user, node, tensor) for user in node.users)
    return {name for name, found in forms.items() if found == {"columns", "table"}}


def _form(user: Node, weight: Node, tensor: torch.Tensor) -> str:
    if user.target is aten.embedding.default:
        return "table"
    return "columns" if user.target in _AS_COLUMNS and reads_panels(user, weight, tensor) else ""


def reads_panels(user: Node, weight: Node, tensor: torch.Tensor) -> bool:
    """Whether a node's kernel reads a weight in panels: as the matrix of a product, and as nothing else."""
    position = {**_AS_COLUMNS, **_AS_ROWS}.get(user.target)  # type: ignore[call-overload]
    if position is None or tensor.dim() != 2 or tensor.dtype not in _DTYPES or not tensor.numel():
        return False
    places = [at for at, argument in enumerate(user.args) if argument is weight]
    return places == [position] and weight not in user.kwargs.values()

"""Reductions on a GPU: a work-group per result where the line is long."""

from __future__ import annotations

from typing import Any

from tvm import s_tir
from tvm.s_tir import dlight
from tvm.s_tir.dlight.analysis import normalize_prim_func


class ReductionsOfLines(dlight.gpu.GeneralReduction):  # type: ignore[misc]
    """A work-group per result, for sums over long lines.

    Convolutions are left to a thread per result: their sums are short and their results many.
    """

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        infos = normalize_prim_func(s_tir.Schedule(func))
        for info in infos or ():
            spatial = sum(1 for axis in info.iters if axis.kind == "S")
            reduced = sum(1 for axis in info.iters if axis.kind == "R")
            if spatial and reduced > 1:
                return None
        return super().apply(func, target, tunable)

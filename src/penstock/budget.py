"""Holding a Program against a memory budget, and saying what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.passes.analysis.memory import Attention, LiveTensor, MemoryFigures, memory
from penstock.passes.core.errors import BudgetError
from penstock.passes.core.printer import short_type
from penstock.passes.core.program import Program
from penstock.passes.core.sizes import format_size

_SHOWN = 8


def check_budget(program: Program, budget: int, attention: Attention = "fused") -> MemoryFigures:
    """The memory figures of a Program that keeps to a budget.

    Args:
        budget: bytes for weights and activations together.
        attention: as in `penstock.memory`; fused for what is compiled, as no target stores its scores.

    Raises:
        BudgetError: the Program needs more; with the largest tensors alive at the peak and what to do.
    """
    figures = memory(program, attention)
    if figures.peak_bytes > budget:
        raise BudgetError(_explain(figures, budget))
    return figures


def _explain(figures: MemoryFigures, budget: int) -> str:
    over = figures.peak_bytes - budget
    lines = [
        f"the memory budget of {format_size(budget)} cannot be met: "
        f"the program needs {format_size(figures.peak_bytes)}, {format_size(over)} more",
        f"  weights      {format_size(figures.weight_bytes)}",
        f"  activations  {format_size(figures.activation_bytes)}{_place(figures)}",
    ]
    if figures.peak is not None:
        alive = figures.live_at(figures.peak.index)
        lines += ["  largest tensors alive at the peak:", *_table(alive[:_SHOWN])]
        if len(alive) > _SHOWN:
            rest = sum(tensor.bytes for tensor in alive[_SHOWN:])
            lines.append(f"    … {len(alive) - _SHOWN} more, {format_size(rest)} together")
    return "\n".join([*lines, f"  {_advice(figures, budget)}"])


def _place(figures: MemoryFigures) -> str:
    peak = figures.peak
    if peak is None:
        return ""
    source = f" ({peak.source})" if peak.source else ""
    return f", at the peak while '{peak.node}' runs{source}"


def _table(tensors: Sequence[LiveTensor]) -> list[str]:
    rows = [
        (
            format_size(tensor.bytes),
            tensor.name,
            short_type(tensor.dtype, tensor.shape) if tensor.dtype else "",
            tensor.module or "-",
            tensor.source or tensor.op,
        )
        for tensor in tensors
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["    " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _advice(figures: MemoryFigures, budget: int) -> str:
    if figures.weight_bytes > budget:
        first = "The weights alone exceed it: use the precision float16 or a smaller model"
    else:
        first = "Use the precision float16, or capture at a smaller resolution, frame count or batch"
    return f"{first}; or allow {format_size(figures.peak_bytes)}. The budget 'min' reports the least and never fails."

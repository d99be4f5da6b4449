"""Where the memory of a model goes, without its weights and without a device.

::

    python examples/inspect_memory.py                                  # a small UNet
    python examples/inspect_memory.py examples/zoo.py:svd_unet_full    # the published size, in a minute

The factory runs on fake tensors, which have shapes and no data. `penstock inspect` shows more; this shows how to ask.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from penstock.frontends.models import load_model
from penstock.passes.analysis.memory import LiveTensor, MemoryFigures, Point, memory
from penstock.passes.core.program import Program
from penstock.passes.core.sizes import format_size

SMALL = f"{Path(__file__).with_name('zoo.py')}:svd_unet"
MODULE = Column("module", overflow="fold")


def totals(program: Program) -> Table:
    """Weights and peaks, with attention as one kernel and with its scores stored."""
    fused, stored = memory(program), memory(program, attention="materialized")
    table = Table("", "bytes", box=None, show_header=False)
    table.columns[1].justify = "right"
    table.add_row("weights", format_size(fused.weight_bytes))
    table.add_row("activations, attention as one kernel", format_size(fused.activation_bytes))
    table.add_row("activations, attention scores stored", format_size(stored.activation_bytes))
    return table


def alive(tensors: Sequence[LiveTensor], count: int = 10) -> Table:
    """The largest tensors at one point, and for how long they live."""
    table = Table("size", "shape", "from", "made at", "used until", MODULE, title="Alive at the peak", box=None)
    for tensor in tensors[:count]:
        shape = "×".join(map(str, tensor.shape))
        life = (str(tensor.made_at), str(tensor.last_used_at))
        table.add_row(format_size(tensor.bytes), shape, tensor.op, *life, tensor.module)
    return table


def highest(figures: MemoryFigures, count: int = 8) -> Table:
    """The modules in which most is alive, each at its worst operator: what to work on, in order."""
    worst: dict[str, Point] = {}
    for point in sorted(figures.timeline, key=lambda point: -point.live_bytes):
        worst.setdefault(point.module, point)
    table = Table("alive", "at", "operator", MODULE, title="The highest modules", box=None)
    for point in islice(worst.values(), count):
        table.add_row(format_size(point.live_bytes), str(point.index), point.op, point.module)
    return table


def main(arguments: Sequence[str]) -> None:
    """Inspect the model that the first argument names, or a small one."""
    console = Console()
    with console.status("capturing on fake tensors"):
        program = load_model(arguments[0] if arguments else SMALL, fake=True)
    figures = memory(program)
    console.print(totals(program))
    if figures.peak is not None:
        console.print(alive(figures.live_at(figures.peak.index)))
        console.print(highest(figures))


if __name__ == "__main__":
    main(sys.argv[1:])

"""How a report and a comparison look in a terminal."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.backends.runner import LaunchTime
from penstock.cli.tables import table
from penstock.passes.core.sizes import format_size
from penstock.report.compare import Comparison
from penstock.report.figures import format_change, format_count, format_flops
from penstock.report.model import CostRow, Kernel, ProgramInfo, Report, Totals

CHART_WIDTH = 72
MODULE_ROWS = 40
"""The module tree is shown to the depth at which it still fits into so many rows."""
_BARS = "▁▂▃▄▅▆▇█"
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def draw_report(console: Console, report: Report, top: int) -> None:
    """Print a report's tables, each cut to its `top` first rows."""
    program = report.program
    target = f" for {report.target}" if report.target else ""
    console.print(Text(f"{report.model}{target}, attention counted as {report.attention}", style="bold"))
    for kind, specs in (("in ", program.inputs), ("out", program.outputs)):
        for spec in specs:
            console.print(f"  {kind} {spec}", markup=False)
    console.print()
    _show(console, _totals(report))
    if report.passes and report.captured_live_bytes:
        console.print(Text("Activations alive as captured", style="bold"))
        peak = max(report.captured_live_bytes)
        console.print(f"  {chart(report.captured_live_bytes)}  peak {format_size(peak)}\n", markup=False)
    _draw_memory(console, program, top)
    if program.groups:
        _show(console, _groups(program, top))
    _draw_costs(console, program, top)
    if report.passes:
        changes = [
            (record.setting, record.exactness, f"{record.nodes_before} → {record.nodes_after}", record.summary)
            for record in report.passes
            if record.changed
        ]
        _show(console, table(["pass that changed something", "exactness", ">nodes", "what it does"], changes))
    if report.kernels:
        _draw_kernels(console, report.kernels, top)


def _draw_kernels(console: Console, kernels: Sequence[Kernel], top: int) -> None:
    """Kernels, those with most work per run first, with the time that the target's peaks allow one launch."""
    order = sorted(kernels, key=lambda kernel: -kernel.launches * (kernel.least_seconds or kernel.flops))
    rows = [
        (
            kernel.name,
            str(kernel.launches),
            _extent(kernel.grid),
            _extent(kernel.block),
            format_flops(kernel.flops) if kernel.moved_bytes else "",
            format_size(kernel.moved_bytes) if kernel.moved_bytes else "",
            f"{kernel.intensity:.1f}" if kernel.moved_bytes else "",
            "" if kernel.least_seconds is None else f"{1e6 * kernel.least_seconds:.2f} µs",
        )
        for kernel in order[:top]
    ]
    columns = ["kernel", ">launches", ">grid", ">block", ">FLOPs", ">bytes", ">FLOPs/byte", ">at the peaks"]
    _show(console, table(columns, rows, _title("Kernels", len(kernels), top)))


def draw_comparison(console: Console, comparison: Comparison, names: tuple[str, str]) -> None:
    """Print what differs between two Programs, with all lines of the graphs' difference."""
    left, right = comparison.left, comparison.right
    _show(console, table(["", f">{names[0]}", f">{names[1]}", ">change"], _compare_totals(left, right)))
    if comparison.operators:
        rows = [
            (change.op, change.left, change.right, f"{change.right - change.left:+}") for change in comparison.operators
        ]
        _show(console, table(["operator", f">{names[0]}", f">{names[1]}", ">change"], rows))
    for line in comparison.diff:
        console.print(Text(line, style=_DIFF_STYLES.get(line[:1], "")), soft_wrap=True)
    if not comparison.diff:
        console.print("the graphs are equal")


def _show(console: Console, block: Table) -> None:
    console.print(block)
    console.print()


def _totals(report: Report) -> Table:
    now = report.program.totals
    if report.passes:
        return table(["", ">captured", ">after the passes", ">change"], _compare_totals(report.captured, now))
    return table(["", ">"], [row[:2] for row in _compare_totals(now, now)])


def _compare_totals(left: Totals, right: Totals) -> list[tuple[str, str, str, str]]:
    rows = (
        ("operators", format_count, left.operators, right.operators),
        ("arithmetic", format_flops, left.flops, right.flops),
        ("memory traffic", format_size, left.moved_bytes, right.moved_bytes),
        ("weights", format_size, left.weight_bytes, right.weight_bytes),
        ("activations at the peak", format_size, left.activation_bytes, right.activation_bytes),
        ("weights and activations", format_size, left.memory_bytes, right.memory_bytes),
    )
    return [(name, show(before), show(after), format_change(before, after)) for name, show, before, after in rows]


def _draw_memory(console: Console, program: ProgramInfo, top: int) -> None:
    if program.peak is None:
        console.print("The graph holds no operator.")
        return
    point = program.timeline[program.peak]
    node = program.nodes[point.node]
    live = [point.live_bytes for point in program.timeline]
    console.print(Text("Activations alive over the run", style="bold"))
    console.print(f"  {chart(live)}  peak {format_size(point.live_bytes)}", markup=False)
    place = _place(node.module, node.source)
    where = f"  at operator {program.peak + 1} of {len(live)}: '{node.name}' ({node.op}) {place}\n"
    console.print(where, markup=False, soft_wrap=True)
    rows = [
        (tensor.name, tensor.type, format_size(tensor.bytes), tensor.module, tensor.source)
        for tensor in program.peak_tensors[:top]
    ]
    title = _title("Alive at the peak", len(program.peak_tensors), top)
    _show(console, table(["tensor", "type", ">bytes", "module", "source"], rows, title))
    if top > 1:
        points = sorted(local_peaks(live), key=lambda index: (-live[index], index))[:top]
        nodes = [(index, program.nodes[program.timeline[index].node]) for index in points]
        rows = [(node.name, node.op, format_size(live[index]), node.module, node.source) for index, node in nodes]
        _show(console, table(["peak at", "operator", ">alive", "module", "source"], rows, "Peaks, highest first"))


def _groups(program: ProgramInfo, top: int) -> Table:
    rows = [
        (
            ", ".join(group.results),
            group.axis,
            f"{group.parts}, each cut again" if group.nested else str(group.parts),
            format_count(group.operators),
            format_flops(group.flops),
            format_size(group.peak_bytes),
        )
        for group in program.groups[:top]
    ]
    heading = ["results", "axis", "parts", ">operators", ">arithmetic", ">alive"]
    return table(heading, rows, _title("In parts", len(program.groups), top))


def _draw_costs(console: Console, program: ProgramInfo, top: int) -> None:
    rows = [
        (row.name, format_count(row.operators), format_flops(row.flops), format_size(row.moved_bytes))
        for row in program.by_operator[:top]
    ]
    title = _title("Operators", len(program.by_operator), top)
    _show(console, table(["operator", ">count", ">arithmetic", ">traffic"], rows, title))
    depth = _module_depth(program.by_module)
    modules = [row for row in program.by_module if row.name and row.name.count(".") < depth]
    rows = [
        (
            "  " * row.name.count(".") + row.name.rpartition(".")[2],
            format_count(row.operators),
            format_flops(row.flops),
            format_size(row.moved_bytes),
        )
        for row in modules
    ]
    if rows:
        _show(console, table(["module", ">operators", ">arithmetic", ">traffic"], rows, "Modules"))


def chart(values: Sequence[int], width: int = CHART_WIDTH) -> str:
    """One line of bars, each as high as the largest value in its part of `values`."""
    columns = min(width, len(values))
    highest = max(values, default=0) or 1
    cuts = [index * len(values) // columns for index in range(columns + 1)] if columns else [0]
    parts = [max(values[start:end]) for start, end in itertools.pairwise(cuts)]
    return "".join(_BARS[(len(_BARS) - 1) * value // highest] for value in parts)


def local_peaks(values: Sequence[int]) -> Iterator[int]:
    """The first index of each stretch of equal values that lies higher than what is before and after it."""
    rising = True
    start = 0
    for index in range(1, len(values) + 1):
        now = values[index] if index < len(values) else -1
        if now > values[start]:
            rising, start = True, index
        elif now < values[start]:
            if rising:
                yield start
            rising, start = False, index


def _module_depth(modules: Sequence[CostRow]) -> int:
    """How many levels of modules are shown: as many as fit, at least one."""
    levels = Counter(row.name.count(".") for row in modules if row.name)
    fitting = [depth for depth in levels if sum(levels[level] for level in range(depth + 1)) <= MODULE_ROWS]
    return 1 + max(fitting, default=0)


def _title(name: str, count: int, top: int) -> str:
    return name if count <= top else f"{name} (the first {top} of {count})"


def _place(module: str, source: str) -> str:
    return " · ".join(part for part in (module, source) if part)


def _extent(extent: Sequence[int]) -> str:
    return " × ".join(map(str, extent))


def draw_launches(console: Console, times: Sequence[LaunchTime], top: int) -> None:
    """Where the time of a run goes: kernels by the sum of their launches, then the slowest launches."""
    runs = max((launch.runs for launch in times), default=1) or 1
    whole = sum(launch.seconds for launch in times) or 1.0
    kernels: dict[str, tuple[int, float]] = {}
    for launch in times:
        count, seconds = kernels.get(launch.kernel, (0, 0.0))
        kernels[launch.kernel] = (count + launch.runs, seconds + launch.seconds)
    slowest = sorted(kernels.items(), key=lambda item: -item[1][1])[:top]
    rows = [
        (name, f"{count / runs:g}", f"{1e3 * seconds / runs:.3f}", f"{seconds / whole:.1%}")
        for name, (count, seconds) in slowest
    ]
    console.print(f"{1e3 * whole / runs:.3f} ms per run, launch by launch, over {runs} run(s)", markup=False)
    console.print(table(["kernel", ">launches", ">ms per run", ">share"], rows))

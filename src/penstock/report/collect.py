"""From Programs to the data of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from penstock.passes.analysis.cost import Cost, CostFigures, cost
from penstock.passes.analysis.memory import Attention, LiveTensor, MemoryFigures, memory
from penstock.passes.core.context import Declined
from penstock.passes.core.printer import format_call, format_type, short_type
from penstock.passes.core.program import Program, SliceLoop, TensorSpec, calls_of
from penstock.passes.core.shapes import dtype_name, value_of
from penstock.passes.core.source import made_by
from penstock.report.history import PassRecord
from penstock.report.model import (
    CostRow,
    GroupInfo,
    Kernel,
    NodeInfo,
    ProgramInfo,
    Report,
    TensorInfo,
    TimelinePoint,
    Totals,
)


def build_report(
    captured: Program,
    final: Program,
    history: Sequence[PassRecord] = (),
    *,
    target: str | None = None,
    memory_budget: int | None = None,
    attention: Attention = "fused",
    declined: Sequence[Declined] = (),
    kernels: Sequence[Kernel] = (),
) -> Report:
    """The report on the way from `captured` to `final`; the two are the same object when no pass ran.

    Args:
        history: what each pass did, from `History.records`.
        target: the device it is compiled for.
        memory_budget: bytes allowed for weights and activations together.
        attention: how attention scores are counted, see `memory`.
        declined: what passes left alone, from `Context.declined`.
        kernels: the compiled kernels in launch order.
    """
    figures = memory(captured, attention)
    return Report(
        model=model_name(captured),
        target=target,
        memory_budget=memory_budget,
        attention=attention,
        captured=_totals(cost(captured), figures),
        captured_live_bytes=tuple(point.live_bytes for point in figures.timeline),
        program=describe(final, attention),
        passes=tuple(history),
        declined=tuple(declined),
        kernels=tuple(kernels),
    )


def model_name(program: Program) -> str:
    """What was captured: the first line of the provenance without its verb."""
    return program.provenance[0].removeprefix("captured ") if program.provenance else "a program"


def describe(program: Program, attention: Attention = "fused") -> ProgramInfo:
    """One Program in full."""
    costs = cost(program)
    figures = memory(program, attention)
    nodes = _nodes(program, costs)
    position = {(node.graph, node.name): index for index, node in enumerate(nodes)}
    peak = figures.peak
    return ProgramInfo(
        totals=_totals(costs, figures),
        inputs=tuple(map(_format_spec, program.signature.inputs)),
        outputs=tuple(map(_format_spec, program.signature.outputs)),
        nodes=nodes,
        timeline=tuple(
            TimelinePoint(position[point.graph, point.node], point.live_bytes) for point in figures.timeline
        ),
        peak=None if peak is None else peak.index,
        peak_tensors=_peak_tensors(figures),
        by_operator=tuple(_row(name, row) for name, row in costs.by_operator.items()),
        by_module=tuple(_row(name, row) for name, row in costs.by_module.items()),
        groups=tuple(_group(op, nodes, figures) for op in program.plan.ops() if isinstance(op, SliceLoop)),
    )


def _group(loop: SliceLoop, nodes: Sequence[NodeInfo], figures: MemoryFigures) -> GroupInfo:
    times: Counter[str] = Counter()
    for call, count in calls_of([loop]):
        times[call.graph] += count
    first = {call.graph for call, _ in calls_of(max(loop.pieces, key=lambda piece: piece.count).ops)}
    window = next(tile for piece in loop.pieces for tile in piece.tiles if tile is not None)
    return GroupInfo(
        results=tuple(name.partition(".")[2] or name for name in loop.results),
        axis=f"dim {window.dim} of {window.outer * window.size * window.inner}",
        parts=sum(piece.count for piece in loop.pieces),
        nested=any(isinstance(op, SliceLoop) for piece in loop.pieces for op in piece.ops),
        operators=sum(node.graph in first for node in nodes),
        flops=sum(node.flops * times[node.graph] for node in nodes),
        peak_bytes=max((point.live_bytes for point in figures.timeline if point.graph in times), default=0),
    )


def _totals(costs: CostFigures, figures: MemoryFigures) -> Totals:
    return Totals(
        operators=len(costs.nodes),
        flops=costs.total.flops,
        moved_bytes=costs.total.moved_bytes,
        weight_bytes=figures.weight_bytes,
        activation_bytes=figures.activation_bytes,
    )


def _nodes(program: Program, costs: CostFigures) -> tuple[NodeInfo, ...]:
    counted = {(row.graph, row.node): row for row in costs.nodes}
    return tuple(
        NodeInfo(
            graph=graph,
            name=node.name,
            op=row.op,
            call=format_call(node),
            type=format_type(value_of(node)),
            flops=row.cost.flops,
            moved_bytes=row.cost.moved_bytes,
            module=row.module,
            source=row.source,
            made_by=made_by(node),
        )
        for graph, module in program.graphs.items()
        for node in module.graph.nodes
        if (row := counted.get((graph, node.name))) is not None
    )


def _peak_tensors(figures: MemoryFigures) -> tuple[TensorInfo, ...]:
    """What is alive at the peak; scores that only the operator at the peak needs stand as one more tensor."""
    peak = figures.peak
    if peak is None:
        return ()
    tensors = [_tensor(tensor) for tensor in figures.live_at(peak.index)]
    if peak.scratch_bytes:
        scratch = TensorInfo(f"{peak.node} (scores)", peak.op, "", peak.scratch_bytes, peak.module, peak.source)
        tensors = sorted([scratch, *tensors], key=lambda tensor: -tensor.bytes)
    return tuple(tensors)


def _tensor(tensor: LiveTensor) -> TensorInfo:
    kind = short_type(tensor.dtype, tensor.shape) if tensor.dtype else ""
    return TensorInfo(tensor.name, tensor.op, kind, tensor.bytes, tensor.module, tensor.source)


def _row(name: str, total: Cost) -> CostRow:
    return CostRow(name, total.operators, total.flops, total.moved_bytes)


def _format_spec(spec: TensorSpec) -> str:
    return f"{spec.name} {short_type(dtype_name(spec.dtype), spec.shape)}"

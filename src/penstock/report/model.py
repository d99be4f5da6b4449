"""The data of a report: plain frozen records, the same for the page, the tables and JSON.

Bytes are dense sizes, FLOPs count a multiply-add as two. Nothing here depends on time, on the machine or on where files
lie, so the same compilation gives the same text.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from penstock.passes.core.context import Declined
from penstock.passes.core.errors import UsageError
from penstock.report.history import PassRecord

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Totals:
    """One Program in five figures."""

    operators: int
    flops: int
    moved_bytes: int
    weight_bytes: int
    activation_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Weights and activations together: what a device must hold."""
        return self.weight_bytes + self.activation_bytes


@dataclass(frozen=True)
class NodeInfo:
    """One operator node and what one run of it costs.

    Attributes:
        call: the node as the printer writes it, ``conv2d(x, conv.weight, …)``.
        type: its result, ``f32[1, 32, 8, 8]``.
        module: dotted path of the module that made it, '' at the top.
        source: ``unet.py:214 in forward``.
        made_by: the pass that made it, '' for a node of the captured model.
    """

    graph: str
    name: str
    op: str
    call: str
    type: str
    flops: int
    moved_bytes: int
    module: str
    source: str
    made_by: str


@dataclass(frozen=True)
class TimelinePoint:
    """One operator as it runs.

    Attributes:
        node: index into `ProgramInfo.nodes`.
        live_bytes: activations alive meanwhile.
    """

    node: int
    live_bytes: int


@dataclass(frozen=True)
class TensorInfo:
    """One tensor that is alive at the memory peak."""

    name: str
    op: str
    type: str
    bytes: int
    module: str
    source: str


@dataclass(frozen=True)
class CostRow:
    """What all nodes of one operator, or of one module with everything below it, cost together."""

    name: str
    operators: int
    flops: int
    moved_bytes: int


@dataclass(frozen=True)
class GroupInfo:
    """Operators that run in parts.

    Attributes:
        results: what they make for later, by name.
        axis: of the first result, as ``dim 1 of 64``.
        parts: how many.
        nested: whether the parts are cut again.
        operators: how many each part runs; where they are cut again, all of one part's.
        flops: of all parts together.
        peak_bytes: the most activations alive while they run.
    """

    results: tuple[str, ...]
    axis: str
    parts: int
    nested: bool
    operators: int
    flops: int
    peak_bytes: int


@dataclass(frozen=True)
class ProgramInfo:
    """One Program in full.

    Attributes:
        inputs: ``x f32[1, 16, 8, 8]``, in order.
        outputs: the same for the results.
        nodes: every operator node of every graph, in order; a graph that runs many times stands here once.
        timeline: the activations alive at each operator, in execution order.
        peak: index into `timeline` of the first point at which most is alive; None for a graph without operators.
        peak_tensors: what is alive then, largest first.
        by_operator: cost by operator, most FLOPs first.
        by_module: cost by module, in order of first use; '' is the whole model.
        groups: what runs in parts, in order.
    """

    totals: Totals
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeInfo, ...]
    timeline: tuple[TimelinePoint, ...]
    peak: int | None
    peak_tensors: tuple[TensorInfo, ...]
    by_operator: tuple[CostRow, ...]
    by_module: tuple[CostRow, ...]
    groups: tuple[GroupInfo, ...] = ()


@dataclass(frozen=True)
class Kernel:
    """One compiled kernel.

    Attributes:
        grid: work-groups of a launch; block: threads of a work-group.
        launches: in one run.
        flops: of one launch; 0 where nobody counted.
        moved_bytes: the least that one launch reads and writes.
        least_seconds: of one launch at the peaks of the target; None where they are not known.
    """

    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    launches: int = 0
    flops: int = 0
    moved_bytes: int = 0
    least_seconds: float | None = None

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0


@dataclass(frozen=True)
class Report:
    """Everything about one compilation, or about one model that was only looked at.

    Attributes:
        model: what was captured.
        target: the device it was compiled for, or None.
        memory_budget: bytes allowed for weights and activations, or None.
        attention: ``fused`` counts attention scores as never stored, ``materialized`` as stored in full.
        captured: the figures before the first pass.
        captured_live_bytes: the memory timeline before the first pass.
        program: the result.
        passes: what each pass did, in order.
        declined: what passes left alone, and why.
        kernels: the compiled kernels, if any.
    """

    model: str
    target: str | None
    memory_budget: int | None
    attention: str
    captured: Totals
    captured_live_bytes: tuple[int, ...]
    program: ProgramInfo
    passes: tuple[PassRecord, ...] = ()
    declined: tuple[Declined, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The report as JSON; equal reports give equal text."""
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, where: str = "report.json") -> Report:
        """Read what `to_json` wrote; `UsageError` names `where` and what is wrong with it."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the top"
            raise UsageError(f"{where} is not a report: at {place}: {first['msg']}") from error

    def to_html(self) -> str:
        """The report as one HTML page that needs no network."""
        from penstock.report.html import render

        return render(self)


_ADAPTER = TypeAdapter(Report)

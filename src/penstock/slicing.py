"""How a Program would be sliced, without slicing it: the plan for a budget, and what each budget costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from penstock.budget import check_budget
from penstock.passes.analysis.memory import Attention, memory
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Call, Program
from penstock.passes.core.sizes import parse_size
from penstock.passes.slicing.choose import Choice, choose, curve
from penstock.passes.slicing.estimates import seconds_of
from penstock.passes.slicing.feature_slicing import carried_out
from penstock.passes.slicing.recipe import SlicingPlan, recipe_of

_POINTS = 6


@dataclass(frozen=True)
class CurvePoint:
    """What one budget costs.

    Attributes:
        peak_bytes: weights and activations together.
        activation_bytes: activations alone.
        added: the estimated time that is added, as a share of the unsliced time.
        groups: how many groups run in parts.
    """

    peak_bytes: int
    activation_bytes: int
    added: float
    groups: int


def slicing_plan(program: Program, memory_budget: str | int, attention: Attention = "fused") -> SlicingPlan:
    """The plan that `FeatureSlicing` would follow.

    Args:
        memory_budget: for weights and activations together, as for `penstock.optimize`.

    Raises:
        UsageError: the Program has loops already, or the size cannot be read.
        BudgetError: no plan that is found keeps to the budget; with what the least needs.
    """
    budget = 0 if memory_budget == "min" else parse_size(memory_budget)
    if budget and memory(replace(program, in_place=True), attention).peak_bytes <= budget:
        return SlicingPlan(attention=attention, graphs={})
    room = max(0, budget - program.weight_bytes)
    choices: dict[str, Choice] = {}
    for call in _calls(program):
        choices.setdefault(call.graph, choose(program, call, room, attention))
    if budget and any(choice.schedule.bytes > room for choice in choices.values()):
        check_budget(carried_out(program, choices), budget, attention)
    graphs = {name: recipe_of(choice) for name, choice in choices.items() if choice.schedule.groups}
    return SlicingPlan(attention=attention, graphs=graphs)


def slicing_curve(
    program: Program,
    attention: Attention = "fused",
    progress: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> list[CurvePoint]:
    """What budgets between the unsliced Program and the least that slicing reaches would cost.

    The first point is the Program as it is; none of the others needs as many bytes as one that takes no longer.

    Args:
        progress: called with a text, the points done and their number.

    Raises:
        UsageError: the Program has loops already, or several calls.
    """
    calls = _calls(program)
    if len(calls) != 1:
        raise UsageError(f"the curve is of one graph; this program calls {len(calls)}: name a budget")
    (call,) = calls
    whole = sum(seconds_of(node) for node in program.graphs[call.graph].graph.nodes if node.op == "call_function")
    points: list[CurvePoint] = []
    for schedule in curve(program, call, attention, _POINTS):
        progress("planning", len(points), _POINTS + 2)
        groups = len(schedule.groups)
        points.append(
            CurvePoint(program.weight_bytes + schedule.bytes, schedule.bytes, schedule.seconds / whole, groups)
        )
    best = [
        point
        for point in points[1:]
        if point.activation_bytes < points[0].activation_bytes
        and not any(
            other != point and other.activation_bytes <= point.activation_bytes and other.added <= point.added
            for other in points[1:]
        )
    ]
    return [points[0], *dict.fromkeys(best)]


def _calls(program: Program) -> list[Call]:
    calls = [op for op in program.plan.ops() if isinstance(op, Call)]
    if len(calls) < len(list(program.plan.ops())):
        raise UsageError("the program is sliced already")
    return calls

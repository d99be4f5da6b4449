"""How a graph is to be sliced: by a plan that fits as measured, or by the one with the fewest bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.passes.analysis.memory import Attention, memory
from penstock.passes.core.program import Call, Phase, Plan, Program, TensorSpec, placeholders, result_nodes
from penstock.passes.core.shapes import dtype_of, shape_of
from penstock.passes.slicing.copies import with_copies
from penstock.passes.slicing.estimates import seconds_of
from penstock.passes.slicing.facts import FORBIDDEN
from penstock.passes.slicing.forms import prepared
from penstock.passes.slicing.planner import SLOW, SPARE, Planner, Schedule
from penstock.passes.slicing.realize import Realizer
from penstock.passes.slicing.rematerialize import rematerialized

_TRIES = 3
DEPTH = 2  # how often parts are cut again, at most
_SLOW = (
    SLOW,
    1.0,
    1.0,
)  # time that a plan of each depth adds, as a share of the unsliced, from which the next is tried


@dataclass(frozen=True)
class Choice:
    """How a graph is to run.

    Attributes:
        planner: of the graph in the form that is cut.
        recompute: values that wait while more bytes than this are alive are made again; None where all wait.
    """

    planner: Planner
    schedule: Schedule
    recompute: int | None = None


def choose(program: Program, call: Call, room: int, attention: Attention, largest: int | None = None) -> Choice:
    """The cheapest plan found for a call's graph under a number of bytes; without one, that with the fewest bytes.

    Args:
        largest: bytes that no single value may exceed; None for no limit.
    """
    program = replace(program, in_place=True)
    plain = planner_of(program, call.graph, attention, largest=largest)
    other = _recomputing(plain, room)
    found: list[tuple[float, int, Planner]] = []
    for depth in range(DEPTH + 1 if room else 0):
        planner = other if depth else plain
        schedule = planner.plan(room, depth)
        if schedule is not None:
            found.append((schedule.cost, depth, planner))
            if schedule.seconds <= _SLOW[depth] * sum(map(seconds_of, planner.line.nodes)):
                break
    for _, depth, planner in sorted(found, key=lambda each: each[:2]):
        schedule = _fitting(program, call, planner, room, depth)
        if schedule is not None:
            return Choice(planner, schedule, room if depth else None)
    return _least(program, call, plain, other, room)


def _least(program: Program, call: Call, plain: Planner, other: Planner, recompute: int) -> Choice:
    """The choice with the fewest bytes: without parts where they save nothing.

    Args:
        recompute: the bytes that were asked for, which cannot be had; 0 for as few as there can be, which takes longer.
    """
    schedule, whole = other.least(), plain.scheduled(())
    while not recompute and (fewer := other.plan(int(schedule.bytes / (1 + SPARE)), DEPTH)) is not None:
        schedule = fewer
    most = _measured(program, call, other, schedule)
    low, wanted = schedule.bytes, schedule.bytes
    while most > low * (1 + SPARE):  # so much more than planned that another plan may need less, such as deeper cuts
        tries = (_fitting(program, call, other, wanted, depth) for depth in range(1, DEPTH + 1))
        better = next((found for found in tries if found is not None), None)
        if better is None:
            low = wanted
        else:
            schedule, most = better, min(wanted, better.bytes)
        wanted = (low + most) // 2
    if plain.unsliced_bytes < FORBIDDEN and most >= whole.bytes:
        return Choice(plain, whole)
    return Choice(other, schedule, recompute)


def _recomputing(planner: Planner, recompute: int) -> Planner:
    """The planner of a graph in which values that wait are made again; the same one where there are none."""
    module = rematerialized(planner.module, planner.line, recompute)
    return planner if module is planner.module else Planner(module, planner.attention, largest=planner.largest)


def planner_of(
    program: Program,
    graph: str,
    attention: Attention,
    recompute: int | None = None,
    largest: int | None = None,
) -> Planner:
    """The planner of one graph; see `Choice`.

    Args:
        largest: bytes that no single value may exceed; None for no limit.
    """
    planner = Planner(prepared(with_copies(program.graphs[graph])), attention, largest=largest)
    return planner if recompute is None else _recomputing(planner, recompute)


def curve(program: Program, call: Call, attention: Attention, points: int) -> Iterator[Schedule]:
    """Schedules of a call's graph from unsliced to the fewest bytes, evenly on a logarithmic scale.

    The first is the graph as it was captured; those after it let results lie where operands die.
    """
    planner = planner_of(program, call.graph, attention)
    unsliced = replace(planner.scheduled(()), bytes=memory(program, attention).activation_bytes)
    yield unsliced
    program = replace(program, in_place=True)
    yield replace(unsliced, bytes=memory(program, attention).activation_bytes)
    floor = _least(program, call, planner, _recomputing(planner, 0), 0).schedule
    ratio = (floor.bytes / unsliced.bytes) ** (1 / points)
    last = unsliced
    for point in range(1, points):
        room = int(unsliced.bytes * ratio**point)
        found = planner.plan(room, depth=0)
        if found is None:
            found = planner_of(program, call.graph, attention, room).plan(room)
        if found is not None and floor.bytes < found.bytes < last.bytes:
            last = found
            yield found
    yield floor


def _fitting(program: Program, call: Call, planner: Planner, room: int, depth: int) -> Schedule | None:
    """A schedule under a number of bytes, as measured.

    A part may need a copy where the whole needs none: then the plan is made anew with that much less room.
    """
    wanted = room
    for _ in range(_TRIES):
        schedule = planner.plan(wanted, depth)
        if schedule is None:
            return None
        excess = _measured(program, call, planner, schedule) - room
        if excess <= 0:
            return schedule
        wanted = schedule.bytes - excess
    return None


def _measured(program: Program, call: Call, planner: Planner, schedule: Schedule) -> int:
    """The most bytes alive while a call runs by a schedule."""
    trial = Realizer()
    ops = trial.ops(planner, schedule, call.args, call.results, call.graph)
    plan = Plan((Phase("main", (ops,)),))
    inputs, outputs = (
        tuple(TensorSpec(name, shape_of(node), dtype_of(node)) for name, node in zip(names, nodes, strict=True))
        for names, nodes in ((call.args, placeholders(planner.module)), (call.results, result_nodes(planner.module)))
    )
    border = replace(program.signature, inputs=inputs, outputs=outputs, states=())
    alone = replace(program, graphs={**program.graphs, **trial.graphs}, plan=plan, signature=border, examples=())
    return memory(alone, planner.attention).activation_bytes

"""Feature slicing and operator grouping to a byte budget: the pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from penstock.passes.analysis.memory import memory
from penstock.passes.core.base import Exactness, Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.program import Call, Op, Phase, Plan, Program, TensorSpec, placeholders, result_nodes
from penstock.passes.core.shapes import dtype_of, shape_of
from penstock.passes.core.sizes import parse_size
from penstock.passes.slicing.forms import prepared
from penstock.passes.slicing.planner import Planner, Schedule
from penstock.passes.slicing.realize import Realizer
from penstock.passes.slicing.rematerialize import rematerialized

_TRIES = 3


@register
@dataclass(frozen=True)
class FeatureSlicing(Pass):
    """Run groups of operators part by part, so that the peak of memory fits a budget.

    What: finds where more is alive than the budget allows, and makes runs of operators there in parts along an axis on
    which they are independent: frames, tokens, positions, heads, queries. Operators that slide over the axis read the
    neighbours of their part again; what something needs whole is made before the loop. Of the runs that end at one
    place the one that adds the least time is taken.

    Given::

        linear = linear(x, weight)                                  f32[2, 64, 1024]
        gelu = gelu(linear)                                         f32[2, 64, 1024]
        y = linear(gelu, weight_1)                                  f32[2, 64, 64]

    Result (the plan)::

        slice (f32[2, 64, 64] y)
          16 × with a = x[dim 1 of 64: 4k … +4]
            (b) = main_0_part(a)
            y[dim 1 of 64: 4k … +4] = b

    Options: `budget` in bytes for weights and activations together, as ``1.5GiB``, or ``min`` for as little as there
    is; without it, the budget of the compilation, if it has one. `attention` as in `penstock.memory`: ``materialized``
    if the kernels of attention store their scores.

    Exactness: exact; the same operators on the same numbers.

    Source: Z. Zhan et al., "Fast and Memory-Efficient Video Diffusion Using Streamlined Inference", NeurIPS 2024,
    section 3, where a person chooses the groups. The analysis of axes and the search are ours.
    """

    budget: str = ""
    attention: Literal["fused", "materialized"] = "fused"

    exactness: ClassVar[Exactness] = "exact"

    def run(self, program: Program, context: Context) -> Program:
        """Slice every call of the plan whose memory is above the budget."""
        given = parse_size(self.budget) if self.budget not in ("", "min") else context.memory_budget
        wanted = 0 if self.budget == "min" else given
        if wanted is None or memory(program, self.attention).peak_bytes <= wanted:
            return program
        room = max(0, wanted - program.weight_bytes)
        realizer = Realizer()
        phases = []
        for phase in program.plan.phases:
            steps = []
            for step in phase.steps:
                steps.append(tuple(made for op in step for made in self._sliced(program, op, room, realizer)))
            phases.append(Phase(phase.name, tuple(steps)))
        graphs = {**program.graphs, **realizer.graphs}
        plan = Plan(tuple(phases))
        used = {call.graph for call, _ in plan.calls()}
        return replace(program, graphs={name: graph for name, graph in graphs.items() if name in used}, plan=plan)

    def _sliced(self, program: Program, op: Op, room: int, realizer: Realizer) -> tuple[Op, ...]:
        if not isinstance(op, Call):
            return (op,)
        module = prepared(program.graphs[op.graph])
        planner = Planner(module, self.attention)
        for nested in (False, True):
            if nested:
                planner = Planner(rematerialized(module, planner.line, room), self.attention)
            schedule = self._fitting(program, op, planner, room, nested)
            if schedule is not None:
                break
        else:
            schedule = planner.least()
        return realizer.ops(planner, schedule, op.args, op.results, op.graph) if schedule.groups else (op,)

    def _fitting(self, program: Program, op: Call, planner: Planner, room: int, nested: bool) -> Schedule | None:
        """A schedule under a number of bytes, as measured.

        A part may need a copy where the whole needs none: then the plan is made anew with that much less room.
        """
        wanted = room
        for _ in range(_TRIES):
            schedule = planner.plan(wanted, nested)
            if schedule is None:
                return None
            excess = self._measured(program, op, planner, schedule) - room
            if excess <= 0:
                return schedule
            wanted = schedule.bytes - excess
        return None

    def _measured(self, program: Program, op: Call, planner: Planner, schedule: Schedule) -> int:
        """The most bytes alive while a call runs by a schedule."""
        trial = Realizer()
        ops = trial.ops(planner, schedule, op.args, op.results, op.graph)
        plan = Plan((Phase("main", (ops,)),))
        inputs, outputs = (
            tuple(TensorSpec(name, shape_of(node), dtype_of(node)) for name, node in zip(names, nodes, strict=True))
            for names, nodes in ((op.args, placeholders(planner.module)), (op.results, result_nodes(planner.module)))
        )
        border = replace(program.signature, inputs=inputs, outputs=outputs, states=())
        alone = replace(program, graphs={**program.graphs, **trial.graphs}, plan=plan, signature=border, examples=())
        return memory(alone, self.attention).activation_bytes

"""Feature slicing and operator grouping to a byte budget: the pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from penstock.passes.analysis.memory import memory
from penstock.passes.core.base import Exactness, Pass, register
from penstock.passes.core.context import Context
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Call, Op, Phase, Plan, Program
from penstock.passes.core.sizes import parse_size
from penstock.passes.slicing.choose import Choice, choose
from penstock.passes.slicing.realize import Realizer
from penstock.passes.slicing.recipe import SlicingPlan, followed


@register
@dataclass(frozen=True)
class FeatureSlicing(Pass):
    """Run groups of operators part by part, so that the peak of memory fits a budget.

    What: first lets results lie where an operand dies (`Program.in_place`). Where that is not enough, finds where more
    is alive than the budget allows, or a value larger than the device allocates at once, and makes runs of operators
    there in parts along an axis on which they are independent: frames, tokens, positions,
    heads, queries. Operators that slide over the axis read the neighbours of their part again; what something needs
    whole is made before the loop. Of the runs that end at one place the one that adds the least time is taken.

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
    if the kernels of attention store their scores. `plan`: a file of ``penstock slice --write`` to follow instead of
    choosing.

    Exactness: exact; the same operators on the same numbers.

    Source: Z. Zhan et al., "Fast and Memory-Efficient Video Diffusion Using Streamlined Inference", NeurIPS 2024,
    section 3, where a person chooses the groups. The analysis of axes and the search are ours.
    """

    budget: str = ""
    attention: Literal["fused", "materialized"] = "fused"
    plan: str = ""

    exactness: ClassVar[Exactness] = "exact"

    def run(self, program: Program, context: Context) -> Program:
        """Slice every call of the plan whose memory is above the budget."""
        given = parse_size(self.budget) if self.budget not in ("", "min") else context.memory_budget
        wanted = 0 if self.budget == "min" else given
        plan_file = SlicingPlan.read(Path(self.plan)) if self.plan else None
        before = memory(program, self.attention)
        limit = context.largest_allocation
        too_large = limit is not None and before.largest_bytes > limit
        if plan_file is None and not too_large and (wanted is None or before.peak_bytes <= wanted):
            return program
        wanted = before.peak_bytes if wanted is None else wanted
        program = replace(program, in_place=True)
        if plan_file is None and not too_large and memory(program, self.attention).peak_bytes <= wanted:
            return program
        unknown = set(plan_file.graphs) - set(program.graphs) if plan_file is not None else ()
        if unknown:
            raise UsageError(f"{self.plan} plans the graph '{min(unknown)}'; there are {', '.join(program.graphs)}")
        room = max(0, wanted - program.weight_bytes)
        choices: dict[str, Choice | None] = {}
        for op in program.plan.ops():
            if isinstance(op, Call) and op.graph not in choices:
                choices[op.graph] = self._choice(program, op, room, plan_file, limit)
        return carried_out(program, choices)

    def _choice(
        self, program: Program, call: Call, room: int, plan: SlicingPlan | None, largest: int | None
    ) -> Choice | None:
        if plan is None:
            return choose(program, call, room, self.attention, largest)
        recipe = plan.graphs.get(call.graph)
        return followed(program, call.graph, recipe, plan.attention) if recipe is not None else None


def carried_out(program: Program, choices: Mapping[str, Choice | None]) -> Program:
    """A Program whose graphs run as chosen, in place; those without a choice or without groups in it run whole."""
    realizer = Realizer()

    def sliced(op: Op) -> tuple[Op, ...]:
        choice = choices.get(op.graph) if isinstance(op, Call) else None
        if choice is None or not isinstance(op, Call) or not choice.schedule.groups:
            return (op,)
        return realizer.ops(choice.planner, choice.schedule, op.args, op.results, op.graph)

    phases = [
        Phase(phase.name, tuple(tuple(made for op in step for made in sliced(op)) for step in phase.steps))
        for phase in program.plan.phases
    ]
    graphs = {**program.graphs, **realizer.graphs}
    plan = Plan(tuple(phases))
    used = {call.graph for call, _ in plan.calls()}
    graphs = {name: graph for name, graph in graphs.items() if name in used}
    return replace(program, graphs=graphs, plan=plan, in_place=True)

"""Running one operator, or one small model, in parts along every axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from penstock.frontends.torch_export import capture_module
from penstock.passes.analysis.axes import Axis, WholeError
from penstock.passes.core import dialect, reference
from penstock.passes.core.program import Phase, Plan, Program
from penstock.passes.core.shapes import shape_of
from penstock.passes.slicing.cuts import Cut
from penstock.passes.slicing.forms import prepared
from penstock.passes.slicing.groups import Group
from penstock.passes.slicing.parts import choices, with_count
from penstock.passes.slicing.planner import Planner, Schedule
from penstock.passes.slicing.realize import Realizer
from penstock.passes.slicing.spans import led
from penstock.passes.slicing.tiling import Tiler


class Function(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def captured(model: torch.nn.Module | Callable[..., Any], *args: torch.Tensor) -> Program:
    """A module or a function as a Program."""
    module = model if isinstance(model, torch.nn.Module) else Function(model)
    return capture_module(module.eval(), args)


def in_parts(program: Program, keeps_halos: bool = False) -> Iterator[tuple[Axis, int, Program]]:
    """The program with all of its operators in one loop, along each axis and in each number of parts that can be.

    Args:
        keeps_halos: whether parts keep halos; then just where there are any.
    """
    planner = Planner(prepared(program.graphs["main"]))
    nodes = planner.line.nodes
    seed = planner.groups.made(0, len(nodes))[-1]
    for dim in range(len(shape_of(seed))):
        axis = Axis.of(shape_of(seed), dim)
        for sweeping in (False, True):
            try:
                tiling = Tiler().tile(nodes, set(planner.groups.made(0, len(nodes))), seed, axis, sweeping)
            except WholeError:
                continue
            if (sweeping and not tiling.sweeps) or (keeps_halos and not tiling.has_halos):
                continue
            for parts in choices(tiling.size, tiling.unit):
                with suppress(WholeError):  # a part of padding only
                    sizes = (with_count(each.tiling.size, 1, 1, parts.count) for each in tiling.sweeps)
                    sweeps = tuple(
                        Cut(led(sweep.tiling, each) if keeps_halos else each, keeps_halos)
                        for sweep, each in zip(tiling.sweeps, sizes, strict=True)
                    )
                    cut = Cut(led(tiling, parts) if keeps_halos else parts, keeps_halos)
                    group = Group(0, len(nodes), (0, 0), axis, tiling, cut, sweeps)
                    yield axis, parts.count, realized(program, planner, planner.scheduled((group,)))


def realized(program: Program, planner: Planner, schedule: Schedule) -> Program:
    """The program run by a schedule."""
    (call,) = program.plan.ops()
    realizer = Realizer()
    ops = realizer.ops(planner, schedule, call.args, call.results, "main")
    plan = Plan((Phase("main", (ops,)),))
    used = {call.graph for call, _ in plan.calls()}
    graphs = {name: realizer.graphs[name] for name in used}
    sliced = replace(program, graphs=graphs, plan=plan, in_place=True)
    dialect.check(sliced, "the test")
    return sliced


def assert_equal(program: Program, sliced: Program, tolerance: float = 1e-5) -> None:
    """Both give the same outputs for the examples."""
    for expected, found in zip(
        reference.run(program, program.examples), reference.run(sliced, program.examples), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

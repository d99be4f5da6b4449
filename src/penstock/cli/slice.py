"""`penstock slice`: which operators would run in parts, why, and what that costs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.optimizing import Choice, capture_without_data, optimize, pass_options, target_option
from penstock.cli.options import global_options
from penstock.cli.output import Output, write_text
from penstock.passes.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.passes.analysis.memory import Attention
    from penstock.passes.core.program import Program
    from penstock.passes.slicing.recipe import SlicingPlan
    from penstock.slicing import CurvePoint


@click.command("slice")
@click.argument("model", metavar="MODEL")
@target_option(required=False)
@pass_options(default_pipeline="mobile")
@click.option(
    "--attention",
    type=click.Choice(["fused", "materialized"]),
    default="fused",
    show_default=True,
    help="Whether attention scores are counted as never stored, or as stored in full.",
)
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PLAN.json",
    help="Write the plan; edit it, and follow it with --pass feature-slicing:plan=PLAN.json.",
)
@global_options
@click.pass_obj
def slice_model(output: Output, /, model: str, attention: Attention, write: Path | None, **chosen: Any) -> None:
    """Show how a model would be sliced to a memory budget, group by group.

    Without --memory-budget: what each budget costs, from the unsliced model to the least that slicing reaches. The
    model is captured on tensors without data, so that any size fits this computer.
    """
    from penstock.slicing import slicing_curve, slicing_plan

    choice = Choice(**chosen)
    with output.progress("capturing") as report:
        report(model, 0, 1)
        captured = choice.resize(capture_without_data(model))
    program, _ = optimize(captured, dataclasses.replace(choice, memory_budget=None), output, attention=attention)
    if choice.memory_budget is None:
        if write is not None:
            raise UsageError("--write needs a --memory-budget: without one there is no plan")
        with output.progress("planning") as report:
            points = slicing_curve(program, attention, report)
        output.result({"curve": [asdict(point) for point in points]}, lambda console: _draw_curve(console, points))
        return
    with output.progress("planning") as report:
        report(str(choice.memory_budget), 0, 1)
        plan = slicing_plan(program, choice.memory_budget, attention)
    if write is not None:
        write_text(write, plan.model_dump_json(indent=2) + "\n")
        output.note(f"wrote {write}")
    data = {"plan": json.loads(plan.model_dump_json()), "weight_bytes": program.weight_bytes}
    output.result(data, lambda console: _draw_plan(console, program, plan, choice.memory_budget))


def _draw_curve(console: Console, points: list[CurvePoint]) -> None:
    from penstock.cli.tables import table
    from penstock.passes.core.sizes import format_size

    rows = [
        (format_size(point.peak_bytes), format_size(point.activation_bytes), f"{point.added:+.1%}", point.groups)
        for point in points
    ]
    heading = [">weights and activations", ">activations", ">time, estimated", ">groups"]
    console.print(table(heading, rows, "What a budget costs"))


def _draw_plan(console: Console, program: Program, plan: SlicingPlan, budget: str | None) -> None:
    from penstock.cli.tables import table
    from penstock.passes.core.sizes import format_size
    from penstock.report.figures import format_flops

    if not plan.graphs:
        floor = budget == "min"
        console.print("parts would save nothing" if floor else "the model keeps to this budget without parts")
    for name, graph in plan.graphs.items():
        rows = []
        for group in graph.groups:
            cuts = " · ".join([*(f"{cut.parts} sweep" for cut in group.sweeps), str(group.cut.parts)])
            again = ", halos kept" if group.cut.keeps_halos else ""
            again += f", each to {format_size(group.cut.again)}" if group.cut.again else ""
            rows.append(
                (
                    f"{group.first} … {group.last}",
                    group.operators,
                    f"dim {group.dim} of {group.size}",
                    cuts + again,
                    format_size(group.bytes),
                    format_size(group.saved),
                    format_flops(group.flops),
                    f"{group.seconds * 1e3:.1f} ms",
                )
            )
        heading = ["group", ">operators", "axis", "parts", ">peak", ">saved", ">FLOPs again", ">time, estimated"]
        console.print(table(heading, rows, f"Groups of {name}"))
        weights, together = format_size(program.weight_bytes), format_size(program.weight_bytes + graph.bytes)
        limit = graph.recompute_above
        recomputed = f"; what waits long above {format_size(limit)} is made again" if limit else ""
        console.print(
            f"{format_size(graph.bytes)} of activations, {together} with {weights} of weights{recomputed}", markup=False
        )

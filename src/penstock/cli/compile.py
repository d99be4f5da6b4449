"""`penstock compile`: from a model to an artifact."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.optimizing import Choice, optimize, pass_options, target_option
from penstock.cli.options import global_options
from penstock.cli.output import Output
from penstock.passes.core.errors import BudgetError
from penstock.passes.core.sizes import format_size, parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.backends.artifact import Artifact
    from penstock.passes.core.instruments import Instrument, Verify
    from penstock.report import Report

_TRIES = 3  # to slice to less, where the launch plan needs more than was planned


@click.command("compile")
@click.argument("model", metavar="MODEL")
@target_option(required=True)
@pass_options(default_pipeline="mobile")
@click.option("--verify-each", is_flag=True, help="Compare numbers with the captured model after every pass.")
@click.option("--dump-ir", type=click.Path(path_type=Path), metavar="DIR", help="Write the graph after each pass.")
@click.option(
    "--tuning",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take schedules from the measurements of `penstock tune`.",
)
@click.option("--no-cache", is_flag=True, help="Compile even if the same was compiled before.")
@click.option("-o", "--output", "destination", type=click.Path(path_type=Path), required=True, metavar="OUT.penstock")
@global_options
@click.pass_obj
def compile_model(
    output: Output,
    /,
    model: str,
    verify_each: bool,
    dump_ir: Path | None,
    tuning: Path | None,
    no_cache: bool,
    destination: Path,
    **chosen: Any,
) -> None:
    """Compile a model for a device, into an artifact folder that an app can load.

    Passes that may change outputs are measured: the artifact and the result say by how much.
    """
    import penstock
    from penstock.backends.artifact import check_destination
    from penstock.backends.targets import find_target
    from penstock.passes.core.instruments import Dump, Verify

    choice = Choice(**chosen)
    find_target(str(choice.target))
    check_destination(destination)
    passes = choice.all_passes()
    with output.progress("capturing") as report:
        report(model, 0, 1)
        captured = choice.resize(penstock.capture(model))
    budget = None if choice.memory_budget in (None, "min") else parse_size(str(choice.memory_budget))
    room = choice.memory_budget
    for tries_left in reversed(range(_TRIES)):
        verify = Verify(each=verify_each)
        instruments: list[Instrument] = [Dump(dump_ir)] if dump_ir is not None else []
        if verify_each or choice.precision == "float16" or any(item.exactness == "lossy" for item in passes):
            instruments.append(verify)
        final, summary = optimize(captured, dataclasses.replace(choice, memory_budget=room), output, instruments)
        summary = dataclasses.replace(summary, memory_budget=budget)
        try:
            with output.progress("compiling") as report:
                report(f"for {choice.target}", 0, 1)
                artifact = penstock.compile(
                    final,
                    str(choice.target),
                    destination,
                    memory_budget=budget,
                    cache=not no_cache,
                    report=summary,
                    losses=verify.losses,
                    tuning=tuning,
                )
            break
        except BudgetError as error:
            if not (error.excess and tries_left):
                raise
            room = str(max(1, parse_size(str(room)) - error.excess))
            output.note(f"the launch plan needs {format_size(error.excess)} more than was planned; slicing again")
    output.result(_data(artifact, summary, verify), lambda console: _draw(console, artifact, summary, verify))


def _data(artifact: Artifact, report: Report, verify: Verify) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "artifact": str(artifact.path),
        "model": report.model,
        "target": report.target,
        "memory_budget_bytes": report.memory_budget,
        "size_bytes": sum(file.size for file in manifest.files.values()),
        "kernels": len(manifest.kernels),
        "captured": asdict(report.captured),
        "compiled": asdict(report.program.totals),
        "passes": [
            {"setting": record.setting, "exactness": record.exactness, "changed": record.changed}
            for record in report.passes
        ],
        "losses": {name: [asdict(item) for item in items] for name, items in verify.losses.items()},
    }


def _draw(console: Console, artifact: Artifact, report: Report, verify: Verify) -> None:
    from penstock.passes.core.sizes import format_size

    def show(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    before, after = report.captured, report.program.totals
    changed = [record.setting for record in report.passes if record.changed]
    size = format_size(sum(file.size for file in artifact.manifest.files.values()))
    show(f"{artifact.path}: {report.model} for {report.target}, {size}, {len(artifact.manifest.kernels)} kernels")
    show(f"  weights      {format_size(after.weight_bytes)}{_was(before.weight_bytes, after.weight_bytes)}")
    show(
        f"  activations  {format_size(after.activation_bytes)} at the peak"
        f"{_was(before.activation_bytes, after.activation_bytes)}"
    )
    if report.memory_budget is not None:
        show(f"  together     {format_size(after.memory_bytes)} of {format_size(report.memory_budget)} allowed")
    show(f"  passes       {', '.join(changed) or 'none changed anything'}")
    for name, differences in verify.losses.items():
        for difference in differences:
            show(f"  {name} moved {difference}")
    show(f"  report       {artifact.path / 'report.html'}")


def _was(before: int, after: int) -> str:
    from penstock.passes.core.sizes import format_size

    return "" if before == after else f" (captured: {format_size(before)})"

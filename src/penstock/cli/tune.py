"""`penstock tune`: measure schedules of a model's kernels on the device, for `penstock compile --tuning`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.optimizing import Choice, optimize, pass_options, target_option
from penstock.cli.options import global_options
from penstock.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.backends.tvm.tuning.tuner import Outcome


@click.command("tune")
@click.argument("model", metavar="MODEL")
@target_option(required=True)
@pass_options(default_pipeline="mobile")
@click.option("--seconds", type=click.FloatRange(min=0), default=300.0, show_default=True, help="How long to search.")
@click.option("--rpc", metavar="HOST:PORT", help="Where TVM's RPC server runs on the device, or a tracker.")
@click.option("--key", metavar="KEY", help="The device's key, if --rpc is a tracker.")
@click.option(
    "-o",
    "--output",
    "database",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Where measurements are kept; one that is there is added to.",
)
@global_options
@click.pass_obj
def tune_model(
    output: Output, /, model: str, seconds: float, rpc: str | None, key: str | None, database: Path, **chosen: Any
) -> None:
    """Measure how fast a model's kernels are with other numbers in their schedules.

    Give it the options that the model will be compiled with, so that it meets the same kernels. Stop it at any time:
    every measurement is kept at once, and the next search goes on from there.
    """
    import penstock
    from penstock.backends.targets import find_target

    choice = Choice(**chosen)
    find_target(str(choice.target))
    with output.progress("capturing") as report:
        report(model, 0, 1)
        captured = choice.resize(penstock.capture(model))
    final, _ = optimize(captured, choice, output)
    with output.progress("measuring") as report:
        outcome = penstock.tune(final, str(choice.target), database, seconds=seconds, rpc=rpc, key=key, progress=report)
    output.result(_data(database, outcome), lambda console: _draw(console, database, outcome))


def _data(database: Path, outcome: Outcome) -> dict[str, Any]:
    return {
        "database": str(database),
        "kernels": len(outcome.tasks),
        "measured": outcome.measured,
        "known": outcome.known,
        "left": outcome.left,
        "improved": [
            {"rule": task.question.rule, "kernel": task.question.kernel, "runs": task.runs, "ratio": task.best}
            for task in outcome.improved
        ],
    }


def _draw(console: Console, database: Path, outcome: Outcome) -> None:
    from penstock.cli.tables import table

    left = f", {outcome.left} are left" if outcome.left else ""
    console.print(
        f"{database}: {len(outcome.tasks)} kernels have a choice; {outcome.measured} choices measured now, "
        f"{outcome.known} known before{left}",
        markup=False,
        soft_wrap=True,
    )
    rows = [
        (task.question.rule, task.question.kernel, str(task.runs), f"{task.best:.2f} ×") for task in outcome.improved
    ]
    if rows:
        console.print(table(["schedule", "kernel", ">runs", ">time against its own choice"], rows))

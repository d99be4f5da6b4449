"""`penstock bench`: how fast an artifact runs here, and against whom.

All contenders run in one process on the same inputs with the same number of threads. They warm up, then take turns,
with the order reversed every other round, so that a drifting clock or a busy neighbour meets them alike. Figures are
medians; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.backends.cores import cores
from penstock.cli.options import global_options
from penstock.cli.output import Output
from penstock.passes.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

WARM_UP = 2
OURS = "penstock"


@click.command()
@click.argument("artifact", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--model", metavar="MODEL", help="The model that the artifact was compiled from; --against needs it.")
@click.option(
    "--against",
    multiple=True,
    type=click.Choice(["eager", "torch-compile", "onnxruntime"]),
    help="Who else runs; repeat for more.",
)
@click.option("--repeat", type=click.IntRange(min=1), default=10, show_default=True, help="Measured runs of each.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads for everybody.  [default: all cores]")
@global_options
@click.pass_obj
def bench(
    output: Output, artifact: Path, model: str | None, against: tuple[str, ...], repeat: int, threads: int | None
) -> None:
    """Measure an artifact on this computer, taking turns with others."""
    if against and model is None:
        raise UsageError(f"--against {against[0]} needs --model MODEL, the model that {artifact} was compiled from")
    count = threads or cores()
    os.environ["PENSTOCK_THREADS"] = str(count)

    import torch

    import penstock
    from penstock.cli.contenders import make_contender

    torch.set_num_threads(count)
    loaded = penstock.load(artifact)
    examples = loaded.examples()
    inputs = [examples[spec.name] for spec in loaded.signature.inputs]
    contenders: dict[str, Callable[[], Any]] = {OURS: lambda: loaded.run(inputs)}
    for name in dict.fromkeys(against):
        assert model is not None
        contenders[name] = make_contender(name, model, inputs, count)
    with output.progress("measuring") as report:
        rounds = measure(contenders, repeat, lambda done: report(f"round {done} of {repeat}", done, repeat))
    rows = summarise(rounds)

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        shown = [
            (
                row["name"],
                f"{row['median_ms']:.3f}",
                f"{row['min_ms']:.3f}",
                f"{row['max_ms']:.3f}",
                f"{row['ratio']:.2f} ×",
            )
            for row in rows
        ]
        console.print(f"{count} thread(s), {repeat} rounds after {WARM_UP} to warm up", markup=False)
        console.print(table(["", ">median ms", ">min ms", ">max ms", ">time against penstock"], shown))

    output.result({"threads": count, "rounds": repeat, "warm_up": WARM_UP, "contenders": rows}, draw)


def measure(
    contenders: Mapping[str, Callable[[], Any]],
    repeat: int,
    report: Callable[[int], None] = lambda done: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each run: contenders take turns, forwards and backwards in alternate rounds."""
    for _ in range(WARM_UP):
        for run in contenders.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeat):
        report(turn)
        for name in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
            began = clock()
            contenders[name]()
            seconds[name].append(clock() - began)
    return seconds


def summarise(rounds: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Median, minimum and maximum in milliseconds, and the median over rounds of each one's time against ours."""
    ours = rounds[OURS]
    return [
        {
            "name": name,
            "median_ms": 1e3 * statistics.median(times),
            "min_ms": 1e3 * min(times),
            "max_ms": 1e3 * max(times),
            "ratio": statistics.median(theirs / our for theirs, our in zip(times, ours, strict=True)),
        }
        for name, times in rounds.items()
    ]

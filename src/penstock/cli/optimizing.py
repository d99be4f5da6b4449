"""What commands that take a model share: the options that choose passes, and running them with a report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import click

from penstock.cli.options import Function, PassName, TargetName
from penstock.cli.output import Output
from penstock.passes.core.errors import CaptureError, UsageError

if TYPE_CHECKING:
    from penstock.passes.analysis.memory import Attention
    from penstock.passes.core.base import Pass
    from penstock.passes.core.instruments import Instrument
    from penstock.passes.core.program import Program
    from penstock.report import Report

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What the options chose; the fields are those of `penstock.optimize`.

    Attributes:
        passes: run after those of the pipeline, written as ``NAME[:key=value,…]``.
        skipped: names of passes that do not run.
        resized: new sizes of the model's inputs, each written as ``INPUT:DIM=SIZE``.
    """

    target: str | None
    memory_budget: str | None
    pipeline: str
    passes: tuple[str, ...]
    skipped: tuple[str, ...]
    precision: Literal["float16", "float32"] | None
    resized: tuple[str, ...] = ()

    def resize(self, captured: Program) -> Program:
        """The captured model with the sizes that were chosen."""
        from penstock.api import resize
        from penstock.passes.resizing import parse_sizes

        return resize(captured, parse_sizes(self.resized)) if self.resized else captured

    def all_passes(self) -> tuple[Pass, ...]:
        """The passes in order, before any is skipped and before the precision is lowered."""
        from penstock.api import pipeline_passes

        return (*pipeline_passes(self.pipeline), *pipeline_passes(self.passes))


def pass_options(default_pipeline: str) -> Callable[[Function], Function]:
    """The options that choose passes but for ``--target``; the command gets each under its name in `Choice`."""
    options = (
        click.option("--memory-budget", metavar="SIZE|min", help="For weights and activations, like 1.5GiB."),
        click.option(
            "--pipeline",
            metavar="NAME|FILE.toml",
            default=default_pipeline,
            show_default=True,
            help="A preset or a pipeline file.",
        ),
        click.option(
            "--pass",
            "passes",
            type=PassName(),
            metavar="NAME[:k=v,…]",
            multiple=True,
            help="Run this pass after the pipeline's; repeat for more.",
        ),
        click.option(
            "--skip-pass", "skipped", type=PassName(), metavar="NAME", multiple=True, help="Do not run this pass."
        ),
        click.option(
            "--resize",
            "resized",
            metavar="INPUT:DIM=SIZE",
            multiple=True,
            help="Give an input another size than its example's: frames, rows, tokens, batch; repeat for more.",
        ),
        click.option("--precision", type=click.Choice(["float16", "float32"]), help="float16 halves weights too."),
    )

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def target_option(required: bool) -> Callable[[Function], Function]:
    """``--target NAME``."""
    text = "The device; `penstock targets list` shows all."
    return click.option("--target", type=TargetName(), metavar="NAME", required=required, help=text)


def as_with_data(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes so that a model without data becomes the graph that it is with data: its plans fit there, too."""
    from penstock.passes.cleanup.fold_constants import FoldConstants

    return tuple(replace(each, without_data=True) if isinstance(each, FoldConstants) else each for each in passes)


def optimize(
    captured: Program,
    choice: Choice,
    output: Output,
    instruments: Sequence[Instrument] = (),
    attention: Attention = "fused",
) -> tuple[Program, Report]:
    """Run the chosen passes, showing progress, and report on them."""
    import penstock
    from penstock.backends.targets import find_target
    from penstock.passes.core.context import Declined
    from penstock.passes.core.instruments import Progress, Skip
    from penstock.passes.core.registry import find_pass
    from penstock.passes.core.sizes import parse_size
    from penstock.report import History, build_report

    target = find_target(choice.target).name if choice.target else None
    skip = Skip([find_pass(name).name() for name in choice.skipped])
    history, declined = History(), list[Declined]()
    with output.progress("passes") as report:
        final = penstock.optimize(
            captured,
            target=target,
            memory_budget=choice.memory_budget,
            pipeline=as_with_data(choice.all_passes()) if captured.is_fake else choice.all_passes(),
            precision=choice.precision,
            instruments=(skip, history, Progress(report), *instruments),
            declined=declined,
        )
    budget = None if choice.memory_budget in (None, "min") else parse_size(str(choice.memory_budget))
    return final, build_report(
        captured,
        final,
        history.records,
        target=target,
        memory_budget=budget,
        attention=attention,
        declined=declined,
    )


def capture_without_data(spec: str) -> Program:
    """Capture on fake tensors; a factory that cannot run on those (it reads values, or loads a file) runs for real."""
    from penstock.frontends.models import load_model

    try:
        return load_model(spec, fake=True)
    except (UsageError, CaptureError) as error:
        _log.info("capturing with real weights, as fake tensors did not do: %s", error)
        return load_model(spec)

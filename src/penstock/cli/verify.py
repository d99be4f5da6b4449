"""`penstock verify`: does an artifact compute what the model computes?"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.optimizing import Choice, optimize, pass_options, target_option
from penstock.cli.options import global_options
from penstock.cli.output import Output
from penstock.passes.core.errors import UsageError, VerificationError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from penstock.backends.loaded import LoadedModel
    from penstock.passes.core.program import Program
    from penstock.passes.core.verify import Difference


@click.command()
@click.argument("subject", metavar="OUT|MODEL")
@target_option(required=False)
@pass_options(default_pipeline="mobile")
@click.option("--against", metavar="MODEL", help="Run this model in PyTorch eager and compare with it.")
@click.option("--tolerance", type=click.FloatRange(min=0), help="Largest error, relative to an output's largest value.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Refuse a simulation that takes longer.",
)
@global_options
@click.pass_obj
def verify(
    output: Output,
    /,
    subject: str,
    against: str | None,
    tolerance: float | None,
    time_limit: float,
    **chosen: Any,
) -> None:
    """Check an artifact: its files by their hashes, its numbers by running it on its example inputs.

    An artifact for a phone's GPU is simulated: its Metal or OpenCL kernels are executed on this CPU with work-groups
    and barriers, and memory is watched. With --target, MODEL is compiled for that device and checked.

    The numbers are compared with what PyTorch eager gave when the artifact was compiled, after its passes and in their
    precision; with --against, with a model as it is now. Exits with 4 if they differ by more than rounding.
    """
    from penstock.verification import verified

    choice = Choice(**chosen)
    with _loaded(subject, choice, output) as (loaded, captured), output.progress("verifying") as report:
        result = verified(loaded, tolerance, report, time_limit)
        differences = (
            list(result.differences) if against is None else _against(loaded, result.outputs, against, tolerance)
        )
        moved = [] if captured is None else _precision_loss(captured, loaded)
    ok = all(difference.ok for difference in differences)

    def draw(console: Console) -> None:
        console.print(result.executed, markup=False, soft_wrap=True)
        for difference in differences:
            console.print(str(difference), markup=False, soft_wrap=True)
        for loss in moved:
            text = f"the passes moved {loss.name} by at most {loss.max_error:.2e} of {loss.scale:.3g}"
            console.print(text, markup=False, soft_wrap=True)

    rows = [{**asdict(difference), "ok": difference.ok} for difference in differences]
    losses = [asdict(loss) for loss in moved]
    data = {"artifact": subject, "ok": ok, "executed": result.executed, "outputs": rows, "passes_moved": losses}
    output.result(data, draw)
    if not ok:
        output.note(f"{subject} does not compute what {against or 'PyTorch eager'} computes")
        sys.exit(VerificationError.exit_code)


@contextlib.contextmanager
def _loaded(subject: str, choice: Choice, output: Output) -> Iterator[tuple[LoadedModel, Program | None]]:
    """The artifact, or the model compiled into one that is gone afterwards, and the model as it was captured."""
    import penstock

    if choice.target is None:
        if any((choice.precision, choice.memory_budget, choice.passes, choice.skipped, choice.resized)):
            raise UsageError("these options are for a model that is compiled first; name a device with --target")
        if Path(subject).suffix in (".pt2", ".onnx") or ":" in subject:
            raise UsageError(f"to verify the model {subject}, name a device with --target")
        yield penstock.load(subject), None
        return
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        with output.progress("capturing") as report:
            report(subject, 0, 1)
            captured = choice.resize(penstock.capture(subject))
        final, summary = optimize(captured, choice, output)
        with output.progress("compiling") as report:
            report(f"for {choice.target}", 0, 1)
            artifact = penstock.compile(final, choice.target, Path(folder) / "model.penstock", report=summary)
        yield penstock.load(artifact.path), captured


def _precision_loss(captured: Program, loaded: LoadedModel) -> list[Difference]:
    """How far passes, half precision among them, moved the outputs of the model: in eager, before and after."""
    from penstock.passes.core import reference
    from penstock.passes.core.verify import compare

    expected = loaded.artifact.expected()
    before = reference.run(captured, captured.examples)
    return [
        compare(spec.name, value, expected[spec.name], least_scale=0.0)
        for spec, value in zip(captured.signature.outputs, before, strict=True)
    ]


def _against(
    loaded: LoadedModel, outputs: Sequence[torch.Tensor], model: str, tolerance: float | None
) -> list[Difference]:
    """Compare what the artifact gave for its example inputs with what a model gives for them, each in its precision."""
    from penstock.frontends.models import load_model
    from penstock.passes.core import reference
    from penstock.passes.core.verify import compare_outputs

    program = load_model(model)
    theirs = [spec.shape for spec in program.signature.inputs]
    ours = [spec.shape for spec in loaded.signature.inputs]
    if theirs != ours:
        raise UsageError(f"{model} is not the model of this artifact: its inputs are {theirs}, the artifact's {ours}")
    examples = loaded.examples()
    inputs = [examples[spec.name] for spec in loaded.signature.inputs]
    cast = [tensor.to(spec.dtype) for tensor, spec in zip(inputs, program.signature.inputs, strict=True)]
    return compare_outputs(program, reference.run(program, cast), outputs, tolerance)

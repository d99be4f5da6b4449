"""`penstock verify`: does an artifact compute what the model computes?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.options import global_options
from penstock.cli.output import Output
from penstock.passes.core.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.backends.loaded import LoadedModel
    from penstock.passes.core.verify import Difference


@click.command()
@click.argument("artifact", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--against", metavar="MODEL", help="Run this model in PyTorch eager and compare with it.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), help="Largest error, relative to the largest value expected."
)
@global_options
@click.pass_obj
def verify(output: Output, artifact: Path, against: str | None, tolerance: float | None) -> None:
    """Check an artifact: its files by their hashes, its numbers by running it on its example inputs.

    The numbers are compared with what PyTorch eager gave when the artifact was compiled, after its passes; with
    --against, with a model as it is now. Exits with 4 if they differ by more than rounding.
    """
    import penstock

    loaded = penstock.load(artifact)
    differences = loaded.verify(tolerance) if against is None else _against(loaded, against, tolerance)
    ok = all(difference.ok for difference in differences)

    def draw(console: Console) -> None:
        for difference in differences:
            console.print(str(difference), markup=False, soft_wrap=True)

    rows = [{**asdict(difference), "ok": difference.ok} for difference in differences]
    output.result({"artifact": str(artifact), "ok": ok, "outputs": rows}, draw)
    if not ok:
        output.note(f"{artifact} does not compute what {against or 'PyTorch eager'} computes")
        sys.exit(VerificationError.exit_code)


def _against(loaded: LoadedModel, model: str, tolerance: float | None) -> list[Difference]:
    """Compare with a model on the artifact's example inputs, in the precision of each."""
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
    return compare_outputs(program, reference.run(program, cast), loaded.run(inputs), tolerance)

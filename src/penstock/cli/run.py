"""`penstock run`: run an artifact on this computer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.options import global_options
from penstock.cli.output import Output
from penstock.cli.tensors import NamedFile, check_writable, read_array, read_tensors, write_tensors
from penstock.passes.core.errors import UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from penstock.backends.loaded import LoadedModel


@click.command()
@click.argument("artifact", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--input", "inputs", type=NamedFile(), multiple=True, help="One input from a file; repeat for others.")
@click.option(
    "--inputs", "inputs_file", type=click.Path(path_type=Path), help="All inputs from a .npz or .safetensors."
)
@click.option("-o", "--output", "destination", type=click.Path(path_type=Path), help="A .npz or .safetensors to write.")
@global_options
@click.pass_obj
def run(
    output: Output,
    artifact: Path,
    inputs: tuple[tuple[str, Path], ...],
    inputs_file: Path | None,
    destination: Path | None,
) -> None:
    """Run an artifact once and show its outputs.

    Inputs that are not given take the values that the model was captured with.
    """
    import penstock

    if destination is not None:
        check_writable(destination)
    model = penstock.load(artifact)
    given = read_tensors(inputs_file) if inputs_file else {}
    given |= {name: read_array(path) for name, path in inputs}
    values = _bind(model, given)
    results = dict(zip([spec.name for spec in model.signature.outputs], model.run(values), strict=True))
    if destination is not None:
        write_tensors(destination, results)
    rows = [_describe(name, tensor) for name, tensor in results.items()]

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        shown = [(row["name"], row["type"], *(_short(row[key]) for key in ("min", "max", "mean"))) for row in rows]
        console.print(table(["output", "type", ">min", ">max", ">mean"], shown))
        if destination is not None:
            console.print(f"wrote {destination}", markup=False)

    output.result({"outputs": rows, "file": None if destination is None else str(destination)}, draw)


def _bind(model: LoadedModel, given: dict[str, Any]) -> list[Any]:
    """One value per input: given by name, or the example."""
    names = [spec.name for spec in model.signature.inputs]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise UsageError(f"the model has no input '{unknown[0]}'; its inputs are {', '.join(names)}")
    examples = model.examples() if len(given) < len(names) else {}
    return [given[name] if name in given else examples[name] for name in names]


def _describe(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    from penstock.passes.core.printer import format_type

    row: dict[str, Any] = {"name": name, "type": format_type(tensor), "min": None, "max": None, "mean": None}
    if tensor.numel() and not tensor.is_complex():
        wide = tensor.double()
        row |= {"min": float(wide.min()), "max": float(wide.max()), "mean": float(wide.mean())}
    return row


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"

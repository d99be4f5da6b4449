"""`penstock inspect`: what a model or an artifact costs, and where its memory goes."""

from __future__ import annotations

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

    from penstock.backends.artifact import Artifact
    from penstock.backends.runner import LaunchTime
    from penstock.passes.analysis.memory import Attention
    from penstock.report import Report


@click.command("inspect")
@click.argument("model", metavar="MODEL|OUT", required=False)
@target_option(required=False)
@pass_options(default_pipeline="none")
@click.option(
    "--attention",
    type=click.Choice(["fused", "materialized"]),
    default="fused",
    show_default=True,
    help="Whether attention scores are counted as never stored, or as stored in full.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page to explore."
)
@click.option("--diff", nargs=2, metavar="A B", help="Compare two models or artifacts instead.")
@click.option("--profile", type=click.IntRange(min=1), metavar="RUNS", help="Run an artifact and time every launch.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Rows of each table.")
@global_options
@click.pass_obj
def inspect_model(
    output: Output,
    /,
    model: str | None,
    attention: Attention,
    html: Path | None,
    diff: tuple[str, str] | None,
    profile: int | None,
    top: int,
    **chosen: Any,
) -> None:
    """Show what a model or an artifact costs: operators, memory over the run, what holds the peak.

    A model is captured on tensors without data, so that any size fits this computer. With --target, --pipeline or
    --pass it is shown after those passes.
    """
    choice = Choice(**chosen)
    if (model is None) == (diff is None):
        raise UsageError("name one MODEL or OUT to inspect, or two with --diff A B")
    if diff is not None:
        if html is not None:
            raise UsageError("--html shows one model; it does not go with --diff")
        _compare(output, diff, choice, attention)
        return
    report, artifact = _look(str(model), choice, output, attention)
    if html is not None:
        write_text(html, report.to_html())
        output.note(f"wrote {html}")

    if profile is not None and artifact is None:
        raise UsageError(
            f"--profile runs a compiled artifact, which {model} is not; compile it for llvm or opencl first"
        )
    times = None if profile is None or artifact is None else _profile(artifact, profile)

    def draw(console: Console) -> None:
        from penstock.cli.report_tables import draw_launches, draw_report

        if artifact is not None:
            _draw_artifact(console, artifact)
        if times is not None:
            draw_launches(console, times, top)
        draw_report(console, report, top)

    manifest = None if artifact is None else artifact.manifest.model_dump(mode="json")
    launches = None if times is None else [asdict(launch) for launch in times]
    output.result({"report": json.loads(report.to_json()), "manifest": manifest, "launches": launches}, draw)


def _profile(artifact: Artifact, repeat: int) -> tuple[LaunchTime, ...]:
    """The time of every launch on the example inputs, after one run to warm up."""
    from penstock.backends.loaded import LoadedModel

    loaded = LoadedModel(artifact)
    examples = loaded.examples()
    inputs = [examples[spec.name] for spec in loaded.signature.inputs]
    loaded.run(inputs)
    return loaded.runner.profile(inputs, repeat)


def _look(spec: str, choice: Choice, output: Output, attention: Attention) -> tuple[Report, Artifact | None]:
    """The report on a model as the passes leave it, or the one that an artifact holds."""
    if Path(spec).is_dir():
        from penstock.backends.artifact import open_artifact
        from penstock.report import Report

        if choice.target or choice.passes or choice.resized or choice.pipeline != "none":
            raise UsageError(f"{spec} is compiled already; --target, --pipeline, --pass and --resize are for models")
        artifact = open_artifact(Path(spec))
        file = artifact.path / "report.json"
        return Report.from_json(file.read_bytes(), str(file)), artifact
    with output.progress("capturing") as report:
        report(spec, 0, 1)
        captured = choice.resize(capture_without_data(spec))
    return optimize(captured, choice, output, attention=attention)[1], None


def _compare(output: Output, specs: tuple[str, str], choice: Choice, attention: Attention) -> None:
    from penstock.report.compare import compare

    left, right = (_look(spec, choice, output, attention)[0].program for spec in specs)
    comparison = compare(left, right)

    def draw(console: Console) -> None:
        from penstock.cli.report_tables import draw_comparison

        draw_comparison(console, comparison, specs)

    output.result({"left": specs[0], "right": specs[1], "comparison": asdict(comparison)}, draw)


def _draw_artifact(console: Console, artifact: Artifact) -> None:
    from penstock.passes.core.sizes import format_size

    manifest = artifact.manifest
    size = format_size(sum(file.size for file in manifest.files.values()))
    console.print(f"{artifact.path}: {size} in {len(manifest.files)} files, for {manifest.target.name}", markup=False)
    console.print(f"  {manifest.target.description}", markup=False, soft_wrap=True)
    memory = manifest.memory
    console.print(
        f"  launch plan: {format_size(memory.arena_bytes)} of arena, of which {format_size(memory.lower_bound_bytes)} "
        f"are alive at once; {format_size(memory.weight_bytes)} of weights",
        markup=False,
        soft_wrap=True,
    )
    made_with = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    console.print(f"  made with {made_with}", markup=False, soft_wrap=True)
    for name, losses in manifest.losses.items():
        for loss in losses:
            text = f"  {name} moved {loss.output} by at most {loss.max_error:.2e} of {loss.scale:.3g}"
            console.print(text, markup=False, soft_wrap=True)
    console.print()

"""Compile a small video-diffusion UNet for this computer, an iPhone and an Android phone; run and verify it here.

::

    python examples/compile_video_unet.py --output out

Each target leaves an artifact with the library or objects, the source of every GPU kernel, the weights, and a report
that opens in a browser.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import penstock
from penstock.api import Precision
from penstock.passes.analysis.cost import cost
from penstock.passes.core.instruments import Verify
from penstock.passes.core.sizes import format_size

MODEL = f"{Path(__file__).with_name('zoo.py')}:svd_unet"
TARGETS: dict[str, Precision] = {"llvm": "float32", "apple-a18-pro": "float16", "adreno-830": "float16"}
"""What to compile for, and in which precision."""


def capture(console: Console) -> penstock.Program:
    """The model as a graph, and what it needs."""
    with console.status("capturing the UNet of Stable Video Diffusion, reduced"):
        program = penstock.capture(MODEL)
    figures, total = penstock.memory(program), cost(program).total
    assert figures.peak is not None
    console.print(f"[bold]captured[/] {total.operators} operators, {total.flops / 1e6:.0f} MFLOP")
    console.print(f"  weights      {format_size(figures.weight_bytes)}")
    peak = f"{figures.peak.op} in {figures.peak.module}"
    console.print(
        f"  activations  {format_size(figures.activation_bytes)} at the peak, {peak}", markup=False, soft_wrap=True
    )
    return program


def compile_for(program: penstock.Program, target: str, folder: Path, console: Console) -> penstock.Artifact:
    """Optimise for a device, compile, write the artifact; each pass is checked against PyTorch eager as it runs."""
    began = time.perf_counter()
    verify = Verify()
    path = folder / f"svd-unet-{target}.penstock"
    with console.status(f"compiling for {target}"):
        fast = penstock.optimize(program, target, pipeline="mobile", precision=TARGETS[target], instruments=[verify])
        artifact = penstock.compile(fast, target, path, losses=verify.losses)
    console.print(f"[bold]{target}[/] {TARGETS[target]}, {time.perf_counter() - began:.1f} s")
    for name, differences in verify.losses.items():
        for difference in differences:
            console.print(f"  {name} moved {difference}", highlight=False, soft_wrap=True)
    return artifact


def run_here(artifact: penstock.Artifact, args: Sequence[torch.Tensor], console: Console) -> None:
    """Verify the artifact for this computer, and run it like the model."""
    model = penstock.load(artifact.path)
    for difference in penstock.verify(model):
        console.print(f"  verified     {difference}", highlight=False, soft_wrap=True)
        if not difference.ok:
            raise SystemExit(4)
    began = time.perf_counter()
    frames = model(*args)
    console.print(f"  one run      {(time.perf_counter() - began) * 1e3:.1f} ms, result {tuple(frames.shape)}")


def summary(artifacts: Iterable[penstock.Artifact]) -> Table:
    """What was made, and how large it is."""
    table = Table("target", "kernels", "weights", "activations", "on disk", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for artifact in artifacts:
        manifest = artifact.manifest
        table.add_row(
            manifest.target.name,
            str(len(manifest.kernels)),
            format_size(manifest.memory.weight_bytes),
            format_size(manifest.memory.activation_bytes),
            format_size(sum(file.size for file in manifest.files.values())),
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("out"), help="the folder for the artifacts (default: out)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="default: all")
    options = parser.parse_args(arguments)
    console = Console()
    options.output.mkdir(parents=True, exist_ok=True)
    program = capture(console)
    artifacts = []
    for target in options.target or TARGETS:
        artifacts.append(compile_for(program, target, options.output, console))
        if target == "llvm":
            run_here(artifacts[-1], program.examples, console)
    console.print()
    console.print(summary(artifacts))
    console.print()
    for artifact in artifacts:
        console.print(f"open {artifact.path / 'report.html'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()

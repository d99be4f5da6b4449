"""How much of the zoo's arithmetic is in GPU kernels that pass the criteria of docs/kernels.md, target by target.

Nothing runs: kernels are generated, and what they do is read off their code. `--full` takes the published sizes, which
are captured without data. `--keep` replaces what was kept of the same models, and leaves the rest.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

import torch
from torch._subclasses import FakeTensorMode

import examples.zoo as models
import penstock
from benchmarks.harness import kept_rows, table, write_results
from penstock.backends.quality import Share, launch_counts, share_of
from penstock.backends.targets import Target, all_targets, find_target
from penstock.backends.tvm.build import generate, launches_of
from penstock.passes.analysis.cost import cost
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION

FAMILIES = ("apple", "adreno", "mali", "opencl")
DEFAULT_TARGETS = ("apple-a18-pro", "adreno-830", "mali-g78", "opencl")
FULL = (
    "svd_unet_full",
    "animatediff_full",
    "svd_vae_decoder_full",
    "ltx_vae_decoder_full",
    "ltx_dit_full",
    "wan_dit_full",
)


@dataclass(frozen=True)
class Row:
    """One model on one target."""

    model: str
    target: str
    precision: str
    gflops: float
    kernels: int
    fraction: float
    failures: tuple[tuple[str, tuple[str, ...], int], ...]


def captured(name: str) -> Program:
    """A model of the zoo; one of the full sizes without data."""
    if name in models.ZOO:
        return penstock.capture(*models.ZOO[name]())
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module, args = getattr(models, name)()
        return penstock.capture(module, args)


def measure(name: str, program: Program, target: Target) -> Row:
    """Generate a model's kernels for a target and check them."""
    precision = "float16" if target.limits.fp16 else "float32"
    ready = penstock.optimize(program, target=target.name, precision=precision)
    legal = Pipeline((*SINGLE_PRECISION, *LEGALIZE)).run(ready)
    compiled = generate(launches_of(legal, target), target)
    launches = launch_counts(compiled.bodies, cost(legal).runs)
    share: Share = share_of(compiled.kernels, launches, target)
    return Row(name, target.name, precision, share.flops / 1e9, len(compiled.kernels), share.fraction, share.failures)


def main() -> None:
    """Check, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*models.ZOO, *FULL])
    parser.add_argument("--target", action="append", choices=[t.name for t in all_targets().values() if t.on_gpu])
    parser.add_argument("--all-targets", action="store_true", help=f"every target of {', '.join(FAMILIES)}")
    parser.add_argument("--full", action="store_true", help="the published sizes instead of the small ones")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/kernel_report")
    options = parser.parse_args()
    every = [target.name for target in all_targets().values() if target.family in FAMILIES]
    targets = [find_target(name) for name in options.target or (every if options.all_targets else DEFAULT_TARGETS)]
    rows = []
    for name in options.model or (FULL if options.full else models.ZOO):
        program = captured(name)
        for target in targets:
            row = measure(name, program, target)
            rows.append(row)
            print(f"{name} on {target.name}: {row.fraction:.2%} of {row.gflops:.3f} GFLOP pass", flush=True)
            for kernel, wrong, flops in row.failures:
                print(f"  {kernel} ({flops / 1e9 / max(row.gflops, 1e-12):.2%}): {'; '.join(wrong)}", flush=True)
    print(summary(rows))
    if options.keep:
        name = "kernel_report_full" if options.full else "kernel_report"
        measured = {(row.model, row.target) for row in rows}
        kept = [Row(**row) for row in kept_rows(name) if (row["model"], row["target"]) not in measured]
        write_results(name, {"rows": [asdict(row) for row in (*kept, *rows)]}, summary([*kept, *rows]))


def summary(rows: list[Row]) -> str:
    """A line per target."""
    groups = [[row for row in rows if row.target == target] for target in dict.fromkeys(row.target for row in rows)]
    body = [
        [
            mine[0].target,
            str(len(mine)),
            f"{sum(row.gflops for row in mine):.2f}",
            f"{_fraction(mine):.2%}",
            f"{min(row.fraction for row in mine):.2%}",
        ]
        for mine in groups
    ]
    return table(["target", "models", "GFLOP", "in kernels that pass", "least of a model"], body)


def _fraction(rows: list[Row]) -> float:
    whole = sum(row.gflops for row in rows)
    return sum(row.gflops * row.fraction for row in rows) / whole if whole else 1.0


if __name__ == "__main__":
    main()

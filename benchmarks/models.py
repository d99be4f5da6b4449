"""penstock's llvm artifact against PyTorch eager, torch.compile and ONNX Runtime: time and peak memory on this machine.

::

    python -m benchmarks.models                         # all contenders on all models
    python -m benchmarks.models --model vit --rounds 50
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import CONTENDERS, prepare
from benchmarks.harness import RESULTS, Timing, alternate, table, write_results
from benchmarks.limit import Limit, measure_limit
from benchmarks.worker import ContenderError, Worker
from penstock.backends.cores import cores

MODELS = ("svd_unet_reduced", "svd_unet", "vit", "ltx_dit", "svd_vae_decoder", "mamba2")
MIB = 2**20


def svd_unet_reduced() -> Any:
    """Stable Video Diffusion's UNet with all four levels, 8 frames of 24 × 24 latents: 41 GFLOP."""
    import torch
    from diffusers import UNetSpatioTemporalConditionModel

    from examples.zoo import Positional, reproducible

    def factory() -> Any:
        model = UNetSpatioTemporalConditionModel(
            block_out_channels=(64, 128, 128, 128),
            num_attention_heads=(2, 4, 4, 4),
            cross_attention_dim=64,
            num_frames=8,
            sample_size=24,
        )
        names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
        sizes = ((1, 8, 8, 24, 24), (), (1, 1, 64), (1, 3))
        return Positional(model, *names), tuple(torch.randn(size) for size in sizes)

    return reproducible(factory)()


@dataclass(frozen=True)
class Row:
    """One contender on one model.

    Attributes:
        error: largest absolute difference to eager.
        prepare_seconds: from starting to load until the first result.
        peak_bytes: of a process that holds this contender alone, while it runs.
    """

    timing: Timing
    error: float
    prepare_seconds: float
    peak_bytes: int


def measure(names: Iterable[str], folder: Path, rounds: int, threads: int) -> tuple[list[Row], dict[str, str]]:
    """Let the contenders run the prepared model of a folder, each in a process of its own, in turns.

    Returns:
        The rows of those that run it, and why the others do not, by name.

    Raises:
        ContenderError: the first does not run it.
    """
    expected = np.load(folder / "expected.npy")
    workers: list[Worker] = []
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            try:
                workers.append(stack.enter_context(Worker(name, CONTENDERS[name], folder, threads)))
            except ContenderError as error:
                if not workers:
                    raise  # ratios are against the first
                failures[name] = str(error)
        timings = alternate(workers, rounds)
        rows = []
        for worker, timing in zip(workers, timings, strict=True):
            peak = worker.peak_bytes()
            worker.output(folder / "actual.npy")
            error = float(np.abs(np.load(folder / "actual.npy") - expected).max())
            rows.append(Row(timing, error, worker.prepare_seconds, peak))
    return rows, failures


def describe(rows: Sequence[Row], least_seconds: float, failures: Mapping[str, str] | None = None) -> str:
    """The rows as a table, then who does not run the model, and why; ratios are against the first."""
    first = rows[0].timing
    header = ("contender", "median ms", "spread", "time ratio", "of the limit", "peak MiB", "ready s", "max error")
    return table(
        header,
        [
            (
                row.timing.name,
                f"{row.timing.median * 1e3:.2f}",
                f"±{row.timing.spread:.0%}",
                f"{row.timing.ratio_to(first):.2f}",
                f"{least_seconds / row.timing.median:.1%}",
                f"{row.peak_bytes / MIB:.0f}",
                f"{row.prepare_seconds:.1f}",
                f"{row.error:.1e}",
            )
            for row in rows
        ]
        + [(name, *["–"] * 6, reason) for name, reason in (failures or {}).items()],
    )


def standing(rows: Sequence[Row]) -> str:
    """How the first contender compares with the fastest of the others that need PyTorch or ONNX Runtime."""
    first, *others = rows
    if not others:
        return ""
    fastest = min(others, key=lambda row: row.timing.median)
    ratio = first.timing.ratio_to(fastest.timing)
    return f"{first.timing.name} takes {ratio:.2f} of the time of {fastest.timing.name}, the fastest of the others."


def as_data(figures: dict[str, float], rows: Sequence[Row], failures: Mapping[str, str]) -> dict[str, Any]:
    """The rows as JSON data."""
    return {
        "model": figures,
        "contenders": {
            row.timing.name: {
                "seconds": row.timing.seconds,
                "ratio": row.timing.ratio_to(rows[0].timing),
                "peak_bytes": row.peak_bytes,
                "prepare_seconds": row.prepare_seconds,
                "max_error": row.error,
            }
            for row in rows
        },
        "failures": dict(failures),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the results."""
    from examples.zoo import ZOO

    parser = argparse.ArgumentParser(prog="benchmarks.models", description=__doc__.partition("\n")[0])
    known = {**ZOO, "svd_unet_reduced": svd_unet_reduced}
    parser.add_argument("--model", action="append", choices=list(known), help=f"default: {', '.join(MODELS)}")
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="default: all")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--quick", action="store_true", help="one small model, 3 rounds: whether it works at all")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write")
    options = parser.parse_args(arguments)
    models = options.model or (("vit",) if options.quick else MODELS)
    contenders = options.contender or list(CONTENDERS)
    rounds = 3 if options.quick else options.rounds

    limit: Limit = measure_limit(options.threads)
    data: dict[str, Any] = {"threads": options.threads, "rounds": rounds, "limit": limit.as_data(), "models": {}}
    parts = [f"{options.threads} thread(s), {rounds} rounds. {limit}"]
    for model in models:
        print(f"{model}: preparing", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            figures = prepare(*known[model](), Path(folder))
            rows, failures = measure(contenders, Path(folder), rounds, options.threads)
        data["models"][model] = as_data(figures, rows, failures)
        summary = (
            f"{figures['operators']} operators, {figures['flops'] / 1e6:.0f} MFLOP, "
            f"weights {figures['weight_bytes'] / MIB:.1f} MiB, "
            f"activations {figures['activation_bytes'] / MIB:.1f} MiB, "
            f"compiled by penstock in {figures['compile_seconds']:.0f} s"
        )
        least = limit.least_seconds(figures["flops"], figures["weight_bytes"])
        parts.append(f"### {model}\n\n{summary}\n\n{describe(rows, least, failures)}\n\n{standing(rows)}")
        print(f"\n{parts[-1]}", flush=True)
    write_results("models", data, "\n\n".join(parts), options.results)


if __name__ == "__main__":
    main()

"""What slicing promises, what the launch plan places, and what runs take: by torch's allocator and by the process.

::

    python -m benchmarks.sliced_memory                     # small video models on larger values
    python -m benchmarks.sliced_memory --model wan_dit --share 0.5

All bytes are of activations; those of the process are its growth while the native runner loads and runs the artifact a
second time, so that the code of its kernels is there, less its weights and less the results, which are the caller's.
What Python reads of an artifact to describe it is not among them.
The limit is equality.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import penstock
from benchmarks.harness import kept_rows, merged_rows, table, write_results
from benchmarks.sliced_models import SMALL, captured
from benchmarks.sliced_time import sliced_to
from penstock.backends.runner import Runner
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.program import Program

MIB = 2**20
SHARES = (1.0, 0.5, 0.25)
MODELS = ("svd_unet", "svd_unet_large", "svd_vae_decoder", "wan_dit")
"""Those whose activations are large against what the runner keeps of their launches: about 1 MiB for a UNet of 1300
operators, however large its values are."""


@dataclass(frozen=True)
class Row:
    """One model in one share of its activations: bytes as planned, as placed, and as taken.

    Attributes:
        torch_value_bytes: what torch's allocator holds for values; `torch_bytes` counts its operators' workspaces too,
            operands of convolutions in another layout above all.
    """

    model: str
    share: float
    planned_bytes: int
    arena_bytes: int
    torch_value_bytes: int
    torch_bytes: int
    process_bytes: int


def torch_peak(program: Program) -> tuple[int, int]:
    """The most that torch's allocator holds during a run of the oracle, with the inputs: of values, and in all.

    Values are what it holds where no operator is at work; the rest are workspaces of torch's own operators, which
    free them before they return.
    """
    reference.run(program, [example.clone() for example in program.examples])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        reference.run(program, (example.clone() for example in program.examples))  # they die as planned
    events = sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    live = values = peak = 0
    busy_until = 0
    for event in events:
        if event.start_ns() > busy_until:
            values = max(values, live)
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
        else:
            busy_until = max(busy_until, event.start_ns() + event.duration_ns())
    return values, peak


def process_growth(artifact: Path, small: Path) -> int:
    """By how much a process grows that loads and runs an artifact, after it did so once."""
    command = [sys.executable, "-m", "benchmarks.sliced_memory", "--grow", str(small), str(artifact)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def grow(small: Path, large: Path) -> int:
    """The growth of this process."""
    models = [penstock.load(path) for path in (small, large)]
    held = []  # nothing that is freed may serve the run that is measured
    for model in models:
        inputs = [model.examples()[spec.name].clone() for spec in model.signature.inputs]
        held.append(model.run(inputs))  # the code is in memory, the runner's and the kernels'
    status, highest = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def bytes_of(key: str) -> int:
        found = re.search(key + r":\s+(\d+)", status.read_text())
        if found is None:
            raise RuntimeError(f"{status} has no {key}")
        return 1024 * int(found[1])

    highest.write_text("5")  # forget the highest use so far
    signature = models[-1].signature
    before = bytes_of("VmRSS")
    results = Runner(large, signature.inputs, signature.outputs).run(inputs)
    return bytes_of("VmHWM") - before - sum(each.nbytes for each in results)


def measure(name: str, share: float, folder: Path) -> Row:
    """One model in one share, or as low as it goes."""
    program = captured(name)
    sliced = replace(program, in_place=True) if share == 1.0 else sliced_to(program, share)
    small, large = folder / "small.penstock", folder / "large.penstock"
    if not small.exists():
        penstock.compile(penstock.capture(torch.nn.Linear(4, 4), (torch.rand(1, 4),)), "llvm", small, cache=False)
    artifact = penstock.compile(sliced, "llvm", large, cache=False)
    planned = memory(sliced)
    growth = process_growth(large, small) - planned.weight_bytes
    return Row(name, share, planned.activation_bytes, artifact.manifest.memory.arena_bytes, *torch_peak(sliced), growth)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=SMALL)
    parser.add_argument("--share", type=float, action="append", help="of its activations")
    parser.add_argument("--grow", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/sliced_memory")
    options = parser.parse_args()
    if options.grow:
        print(grow(*options.grow))
        return
    torch.set_num_threads(1)
    rows = []
    for name in options.model or MODELS:
        for share in options.share or SHARES:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(name, share, Path(folder)))
            print(rows[-1], file=sys.stderr, flush=True)
    kept = [Row(**row) for row in merged_rows(kept_rows("sliced_memory"), map(asdict, rows), "model", "share")]
    text = described(kept if options.keep else rows)
    print(text)
    if options.keep:
        write_results("sliced_memory", {"rows": [*map(asdict, kept)]}, text)


def described(rows: Sequence[Row]) -> str:
    """The table."""
    head = ["model", "asked", "planned MiB", "arena MiB", "torch values MiB", "torch MiB", "process MiB"]
    body = [
        [
            row.model,
            f"{row.share:.2f}",
            *(
                f"{bytes_ / MIB:.1f}"
                for bytes_ in (
                    row.planned_bytes,
                    row.arena_bytes,
                    row.torch_value_bytes,
                    row.torch_bytes,
                    row.process_bytes,
                )
            ),
        ]
        for row in rows
    ]
    return table(head, body)


if __name__ == "__main__":
    main()

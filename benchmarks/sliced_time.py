"""What slicing costs in time: each model unsliced and in a share of its activations, in turns, in torch and natively.

::

    python -m benchmarks.sliced_time                       # small video models, one thread
    python -m benchmarks.sliced_time --model wan_dit --share 0.5

A share below what slicing reaches is measured at what it reaches, and the table says so. There is no other contender:
the physical limit is a ratio of 1, for the same operators run on the same numbers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import penstock
from benchmarks.harness import Timed, alternate, kept_rows, merged_rows, table, write_results
from benchmarks.sliced_models import SMALL, captured
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.slicing.feature_slicing import FeatureSlicing

SHARES = (0.5, 0.2)
_COMPILATIONS = 3  # one alone strays by a fifth


@dataclass(frozen=True)
class Row:
    """One model in one share of its activations.

    Attributes:
        share: of the activations that the sliced model holds, as asked and as reached.
        torch_ratio: time of the sliced model against the whole one in torch, the median over rounds.
        native_ratio: likewise in the native runner on one processor core, target llvm.
        compile_ratio: likewise for compiling, in processor time, the median over a few rounds after a small model.
        arena_bytes: what the launch plan of the sliced model allocates; planned_bytes is what slicing promised.
    """

    model: str
    asked: float
    share: float
    torch_ratio: float
    native_ratio: float
    compile_ratio: float
    planned_bytes: int
    arena_bytes: int


def sliced_to(program: Program, share: float) -> Program:
    """The program in a share of its activations, or as low as it goes."""
    budget = program.weight_bytes + int(share * memory(program).activation_bytes)
    return FeatureSlicing(str(budget)).run(program, Context())


def _spent() -> float:
    """Processor time so far, of this process and of those that it waited for, such as linkers."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(name: str, share: float, rounds: int) -> Row:
    """Compare one model with itself."""
    program = captured(name)
    args = program.examples
    sliced = sliced_to(program, share)
    planned = memory(sliced).activation_bytes
    whole, parts = alternate(
        [
            Timed("whole", lambda: reference.run(program, program.examples)),
            Timed("parts", lambda: reference.run(sliced, sliced.examples)),
        ],
        rounds,
    )
    torch_ratio = parts.ratio_to(whole)
    with tempfile.TemporaryDirectory() as folder:
        warm_up = penstock.capture(torch.nn.Linear(4, 4), (torch.rand(1, 4),))
        penstock.compile(warm_up, "llvm", Path(folder) / "warm_up.penstock", cache=False)
        ratios, artifacts = [], []
        for turn in range(_COMPILATIONS):
            seconds = []
            for label, each in (("whole", program), ("parts", sliced)):
                began = _spent()
                path = Path(folder) / f"{label}{turn}.penstock"
                artifacts.append(penstock.compile(each, "llvm", path, cache=False))
                seconds.append(_spent() - began)
            ratios.append(seconds[1] / seconds[0])
        loaded = [penstock.load(artifact.path) for artifact in artifacts[-2:]]
        arena = artifacts[-1].manifest.memory.arena_bytes
        whole, parts = alternate(
            [Timed("whole", lambda: loaded[0](*args)), Timed("parts", lambda: loaded[1](*args))], rounds
        )
    return Row(
        name,
        share,
        planned / memory(program).activation_bytes,
        torch_ratio,
        parts.ratio_to(whole),
        statistics.median(ratios),
        planned,
        arena,
    )


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=SMALL)
    parser.add_argument("--share", type=float, action="append", help="of its activations")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument(
        "--keep", action="store_true", help="write benchmarks/results/sliced_time, where other rows stay"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["PENSTOCK_THREADS"] = "1"
    rows = []
    for name in options.model or SMALL:
        for share in options.share or SHARES:
            rows.append(measure(name, share, options.rounds))
            print(rows[-1], file=sys.stderr, flush=True)
    kept = [Row(**row) for row in merged_rows(kept_rows("sliced_time"), map(asdict, rows), "model", "asked")]
    text = described(kept if options.keep else rows)
    print(text)
    if options.keep:
        write_results("sliced_time", {"rows": [*map(asdict, kept)]}, text)


def described(rows: Sequence[Row]) -> str:
    """The table."""
    head = ["model", "asked", "reached", "torch", "native", "compile", "planned KiB", "arena KiB"]
    body = [
        [
            row.model,
            f"{row.asked:.2f}",
            f"{row.share:.2f}",
            f"{row.torch_ratio:.3f} ×",
            f"{row.native_ratio:.3f} ×",
            f"{row.compile_ratio:.2f} ×",
            f"{row.planned_bytes / 1024:.1f}",
            f"{row.arena_bytes / 1024:.1f}",
        ]
        for row in rows
    ]
    return table(head, body)


if __name__ == "__main__":
    main()

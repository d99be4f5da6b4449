"""Full-size models compiled for a GPU, unsliced and sliced: bytes as planned and as laid out, kernels, and time.

::

    python -m benchmarks.full_compile                     # the published sizes, float16, OpenCL; no GPU is needed
    python -m benchmarks.full_compile --model wan_dit_full --target adreno-740

Models are captured on fake tensors: no weights are needed, as nothing is written and nothing runs. Time is the
processor's, for everything from the sliced graphs to the kernels' code. Bytes are of activations. The limits are the
planned bytes, and the time of the unsliced model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

import penstock
from benchmarks.harness import kept_rows, merged_rows, table, write_results
from benchmarks.memory import MIB, PUBLISHED, captured
from penstock.backends.plan.layout import lay_out
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import generate, launches_of
from penstock.compilation import legalized
from penstock.passes.analysis.memory import memory
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.slicing.feature_slicing import FeatureSlicing


@dataclass(frozen=True)
class Compiled:
    """What compiling a program for a target took, and what came of it."""

    arena_bytes: int
    kernels: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """One model, unsliced and in the bytes that were asked for."""

    model: str
    target: str
    planned_bytes: int
    arena_bytes: int
    kernels: tuple[int, int]
    seconds: tuple[float, float]


def compiled(program: Program, target_name: str, room: int) -> Compiled:
    """Compile a program on fake tensors, without a library and an artifact.

    Args:
        room: bytes of activations that fusing operators and packing them are to keep within.
    """
    target = find_target(target_name)
    began = time.process_time()
    legal = legalized(program, target)
    launches = launches_of(legal, target, room)
    nests = tuple(launches.table.nests.values())
    placed = lay_out(nests, launches.bodies, legal.plan, legal.signature, target.limits, room).placement
    code = generate(launches, target)
    return Compiled(placed.bytes, len(code.kernels), time.process_time() - began)


def measure(name: str, target: str) -> Row:
    """Compile one model as it is, and sliced."""
    program = captured(name)
    before = memory(program).activation_bytes
    asked = PUBLISHED[name]
    wanted = int(asked * before) if asked < 1 else int(asked)
    sliced = FeatureSlicing(str(program.weight_bytes + wanted)).run(program, Context())
    whole, parts = compiled(program, target, before), compiled(sliced, target, wanted)
    planned = memory(sliced).activation_bytes
    kernels, seconds = (whole.kernels, parts.kernels), (whole.seconds, parts.seconds)
    return Row(name, target, planned, parts.arena_bytes, kernels, seconds)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=PUBLISHED)
    parser.add_argument("--target", default="opencl")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/full_compile")
    options = parser.parse_args()
    rows = []
    compiled(penstock.capture(torch.nn.Linear(4, 4), (torch.rand(1, 4),)), options.target, 1 << 20)  # to warm up
    for name in options.model or PUBLISHED:
        rows.append(measure(name, options.target))
        print(rows[-1], file=sys.stderr, flush=True)
    kept = [Row(**row) for row in merged_rows(kept_rows("full_compile"), map(asdict, rows), "model")]
    text = described(kept if options.keep else rows)
    print(text)
    if options.keep:
        write_results("full_compile", {"rows": [*map(asdict, kept)]}, text)


def described(rows: Sequence[Row]) -> str:
    """The table."""
    head = ["model", "target", "planned MiB", "arena MiB", "kernels", "sliced", "seconds", "sliced", "ratio"]
    body = [
        [
            row.model,
            row.target,
            f"{row.planned_bytes / MIB:.1f}",
            f"{row.arena_bytes / MIB:.1f}",
            *map(str, row.kernels),
            *(f"{seconds:.0f}" for seconds in row.seconds),
            f"{row.seconds[1] / row.seconds[0]:.2f} ×",
        ]
        for row in rows
    ]
    return table(head, body)


if __name__ == "__main__":
    main()

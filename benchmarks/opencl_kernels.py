"""Every distinct operator of the zoo, and some layers, on an OpenCL device: our kernels against TVM's own, in turns.

::

    python -m benchmarks.opencl_kernels                    # the zoo, larger sizes of it, and larger layers
    python -m benchmarks.opencl_kernels --model vit --rounds 20 --gflops 4000 --gbytes 900

For a device of another machine, which needs no TVM::

    python -m benchmarks.opencl_kernels --target nvidia-h200 --compile-to cases     # here
    python -m benchmarks.opencl_kernels --run cases --keep                          # there

Each operator is a graph of its own, compiled twice and run by the native runner; a time is the sum of its launches by
the device's clock, from the start of a kernel to its end. TVM's own is what its users get (`tvm_defaults.py`); those
that TVM does not take are in no mean. The fraction of the roofline takes the device's peaks from the options, or from
the target; without them, those of this machine's processor (`limit.py`), which is the device when OpenCL is PoCL.
`--keep` replaces what was kept of the same models and sizes on the same target, and leaves the rest.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.harness import kept_rows, table, write_results
from benchmarks.limit import Limit, measure_limit
from benchmarks.opencl_cases import LAYERS, Case, read_index, write_index
from examples.zoo import ZOO
from penstock.backends.cores import cores
from penstock.backends.runner import Runner, opencl_devices
from penstock.backends.targets import Target, all_targets, find_target
from penstock.passes.core.errors import UsageError

MODELS = (*ZOO, LAYERS)
SIZES = ("zoo", "larger")


@dataclass(frozen=True)
class Row:
    """One operator at one size.

    Attributes:
        ratio: times faster than with TVM's schedules, the median over rounds of the ratio within a round.
        of_limit: the least time that the device allows over ours.
    """

    operator: str
    shapes: str
    model: str
    size: str
    microseconds: float
    ratio: float
    of_limit: float


def compiled(names: Sequence[str], sizes: Sequence[str], target: Target, cases: Path) -> Iterator[Case]:
    """Compile operators of models, one at a time, into a folder of all cases."""
    from benchmarks.opencl_operators import compile_cases  # here: measuring needs no TVM

    known: set[str] = set()
    for name, size in itertools.product(names, sizes):
        yield from compile_cases(name, size, target, cases, known)


def one_by_one(cases: Iterator[Case], folder: Path) -> Iterator[Case]:
    """Cases of which no more than one is in the folder."""
    for case in cases:
        yield case
        shutil.rmtree(folder / case.folder)


def measure(case: Case, cases: Path, rounds: int, limit: Limit) -> Row:
    """Compare one operator's kernels.

    Raises:
        UsageError: the device does not take a kernel.
        AssertionError: the results differ.
    """
    # One case at a time: PoCL looks a kernel up in a list of all that were ever loaded, the latest first.
    ours, theirs = case.runners(cases)
    examples = case.examples()
    for mine, other in zip(ours.run(examples), theirs.run(examples), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3, equal_nan=True)
    times = []
    for turn in range(rounds):
        first, second = (ours, theirs) if turn % 2 else (theirs, ours)
        pair = _seconds(first, examples), _seconds(second, examples)
        times.append(pair if turn % 2 else pair[::-1])
    mine = [seconds for seconds, _ in times]
    ratio = statistics.median(other / own for own, other in times)
    of_limit = limit.least_seconds(case.flops, case.moved_bytes) / min(mine)
    return Row(case.operator, case.shapes, case.model, case.size, 1e6 * statistics.median(mine), ratio, of_limit)


def _seconds(runner: Runner, examples: Sequence[torch.Tensor]) -> float:
    """Seconds of the kernels of one run, after one that wakes the device up."""
    runner.run(examples)
    return sum(launch.seconds for launch in runner.profile(examples) if launch.kernel != "copy")


def geometric_mean(rows: list[Row]) -> float:
    """Of the ratios."""
    return math.exp(statistics.fmean(math.log(row.ratio) for row in rows)) if rows else float("nan")


def summary(rows: list[Row]) -> str:
    """A line per kind of operator, and one for all."""
    kinds = sorted({row.operator for row in rows})
    groups = [(kind, [row for row in rows if row.operator == kind]) for kind in kinds]
    groups.sort(key=lambda group: geometric_mean(group[1]))
    lines = [
        [
            kind,
            str(len(mine)),
            f"{geometric_mean(mine):.2f} ×",
            f"{min(row.ratio for row in mine):.2f} ×",
            f"{max(row.of_limit for row in mine):.3f}",
        ]
        for kind, mine in [
            *groups,
            *((f"all, {size}", [row for row in rows if row.size == size]) for size in SIZES),
            ("all", rows),
        ]
        if mine
    ]
    return table(["operator", "shapes", "faster, geometric mean", "least", "of the limit, best"], lines)


def result_name(target: Target) -> str:
    """Where a target's figures are kept; the generic one's are those of this machine's processor."""
    return "opencl_kernels" if target.family == "opencl" else f"opencl_kernels_{target.name}"


def keep(rows: Sequence[Row], target: Target, limit: Limit) -> None:
    """Replace what was kept of the same models and sizes."""
    measured = {(row.model, row.size) for row in rows}
    name = result_name(target)
    kept = [Row(**row) for row in kept_rows(name) if (row["model"], row["size"]) not in measured]
    known = {(row.operator, row.shapes) for row in kept}
    every = kept + [row for row in rows if (row.operator, row.shapes) not in known]
    data = {"device": opencl_devices()[:1], "limit": limit.as_data(), "rows": [asdict(row) for row in every]}
    write_results(name, data, summary(every))


def limit_of(target: Target, gflops: float | None, gbytes: float | None) -> Limit:
    """The peaks that are given, or a target's, or those of this machine's processor."""
    gflops, gbytes = gflops or target.compute.gflops_float32, gbytes or target.compute.gbytes_per_second
    if gflops and gbytes:
        return Limit(gflops * 1e9, gbytes * 1e9)
    return measure_limit(cores())


def main() -> None:
    """Compile, measure, print and keep."""
    here = [target.name for target in all_targets().values() if target.kind == "opencl" and not target.host]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--target", choices=here, default="opencl", help="what to compile for")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--compile-to", type=Path, metavar="FOLDER", help="compile only, into an empty folder")
    way.add_argument("--run", type=Path, metavar="FOLDER", help="measure what was compiled into a folder")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--gflops", type=float, help="the device's float32 peak, 10⁹ operations per second")
    parser.add_argument("--gbytes", type=float, help="the peak of its memory, 10⁹ bytes per second")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/opencl_kernels")
    options = parser.parse_args()
    names, sizes = options.model or MODELS, options.size or SIZES
    target = find_target(options.target)
    if options.compile_to:
        options.compile_to.mkdir(parents=True, exist_ok=True)
        write_index(options.compile_to, target, compiled(names, sizes, target, options.compile_to))
        return
    print("devices:", "; ".join(opencl_devices()) or "none: pip install pocl-binary-distribution")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.run or Path(temporary)
        if options.run:
            target, every = read_index(folder)
            cases = (case for case in every if case.model in names and case.size in sizes)
        else:
            cases = one_by_one(compiled(names, sizes, target, folder), folder)
        limit = limit_of(target, options.gflops, options.gbytes)
        print(limit)
        rows, failures = [], []
        for (name, size), group in itertools.groupby(cases, lambda case: (case.model, case.size)):
            fresh = []
            for case in group:
                try:
                    fresh.append(measure(case, folder, options.rounds, limit))
                except (UsageError, AssertionError) as error:
                    failures.append(f"{case.operator} {case.shapes} ({case.folder}): {error}")
            rows += fresh
            print(f"{name}, {size}: {len(fresh)} operators, {geometric_mean(fresh):.2f} × TVM's", flush=True)
            if options.keep:
                keep(rows, target, limit)
    print(summary(rows))
    for row in sorted((row for row in rows if row.ratio < 1), key=lambda row: row.ratio):
        print(f"  slower: {row.operator} {row.shapes} {row.ratio:.2f} × ({row.microseconds:.0f} µs)")
    if failures:
        sys.exit("\n".join(["not measured:", *failures]))


if __name__ == "__main__":
    main()

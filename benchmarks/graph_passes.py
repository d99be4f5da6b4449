"""How the time of each analysis and pass grows with the number of nodes, on synthetic graphs.

::

    python -m benchmarks.graph_passes            # 1,000, 3,000 and 10,000 nodes
    python -m benchmarks.graph_passes --quick    # small graphs: whether it works at all

The exponent p of ``seconds ≈ c · nodes ** p`` is fitted over the sizes: 1 is linear, and 2 does not scale.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import timeit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, fitted_exponent, table, write_results
from benchmarks.synthetic import SHAPES
from penstock.passes.analysis.cost import cost
from penstock.passes.analysis.memory import memory
from penstock.passes.core import dialect
from penstock.passes.core.base import Pass
from penstock.passes.core.context import Context
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program
from penstock.passes.core.registry import all_passes

SIZES = (1_000, 3_000, 10_000)
QUICK_SIZES = (100, 300)
IDLE_SECONDS = 1e-3

Subject = Callable[[Program], object]

ANALYSES: dict[str, Subject] = {
    "memory": memory,
    "cost": cost,
    "dialect check": lambda program: dialect.check(program, "the benchmark"),
    "listing": format_program,
}


def subjects() -> dict[str, Subject]:
    """What is timed: the analyses, and every known pass that needs no options."""
    passes = {name: pass_type for name, pass_type in all_passes().items() if not _required_options(pass_type)}
    return {**ANALYSES, **{f"pass {name}": _running(pass_type()) for name, pass_type in passes.items()}}


def _required_options(pass_type: type[Pass]) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(pass_type)
        if field.default is missing and field.default_factory is missing
    ]


def _running(instance: Pass) -> Subject:
    return lambda program: instance.run(program, Context())


def best_seconds(subject: Subject, program: Program, runs: int = 3) -> float:
    """The fastest of several runs: what the code needs when nothing disturbs it."""
    return min(timeit.repeat(lambda: subject(program), number=1, repeat=runs))  # with garbage collection off


def measure(sizes: Sequence[int], runs: int = 3) -> dict[str, dict[str, dict[int, float]]]:
    """Seconds by shape, subject and number of nodes."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    timed = subjects()
    for shape, build in SHAPES.items():
        for size in sizes:
            program = build(size)
            print(f"{shape}: {program.node_count} nodes", file=sys.stderr)
            for name, subject in timed.items():
                row = found.setdefault(shape, {}).setdefault(name, {})
                row[program.node_count] = best_seconds(subject, program, runs)
    return found


def describe(rows: Mapping[str, Mapping[int, float]]) -> str:
    """The subjects of one shape as a table, slowest first; those with nothing to do here in one line below."""
    sizes = list(next(iter(rows.values())))
    busy = {name: row for name, row in rows.items() if row[sizes[-1]] >= IDLE_SECONDS}
    idle = sorted(set(rows) - set(busy))
    lines = table(
        ("", *(f"{size} nodes, ms" for size in sizes), "exponent"),
        [
            (name, *(f"{row[size] * 1e3:.1f}" for size in sizes), f"{fitted_exponent(sizes, list(row.values())):.2f}")
            for name, row in sorted(busy.items(), key=lambda item: -item[1][sizes[-1]])
        ],
    )
    return f"{lines}\n\nUnder {IDLE_SECONDS * 1e3:.0f} ms, with nothing to do: {', '.join(idle)}" if idle else lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.graph_passes", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write")
    options = parser.parse_args(arguments)
    found = measure(QUICK_SIZES, runs=1) if options.quick else measure(SIZES)
    text = "\n\n".join(f"### {shape}\n\n{describe(rows)}" for shape, rows in found.items())
    print(text)
    data: dict[str, Any] = {"seconds": found}
    write_results("graph_passes", data, text, options.results)


if __name__ == "__main__":
    main()

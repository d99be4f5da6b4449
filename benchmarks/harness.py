"""Measuring contenders against each other: they take turns in one run, and what is printed are ratios.

Machines drift: a clock boosts, a neighbour wakes up. So contenders run A B C A B C …, and the ratio of two contenders
is the median over rounds of the ratio within each round, which a drift meets on both sides.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from penstock.backends.cores import cores

RESULTS = Path(__file__).parent / "results"


class Contender(Protocol):
    """Something that can be timed."""

    @property
    def name(self) -> str:
        """How to call it in tables."""

    def run(self) -> float:
        """Run once; the seconds it took."""


@dataclass(frozen=True)
class Timed:
    """A contender that is a function."""

    name: str
    function: Callable[[], object]

    def run(self) -> float:
        """Call it; the seconds it took."""
        began = time.perf_counter()
        self.function()
        return time.perf_counter() - began


@dataclass(frozen=True)
class Timing:
    """The seconds of one contender, one per round."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the middle round."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a fraction of the median."""
        if len(self.seconds) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (upper - lower) / 2 / self.median

    def ratio_to(self, other: Timing) -> float:
        """How many times as long it takes as `other`: the median of the rounds' ratios."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))


def alternate(
    contenders: Sequence[Contender],
    rounds: int,
    warm_up: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Let contenders take turns.

    Args:
        rounds: how often each is measured.
        warm_up: how often each runs before.
        progress: called with the number of rounds done and in all.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(warm_up + rounds):
        for contender in contenders:
            taken = contender.run()
            if turn >= warm_up:
                seconds[contender.name].append(taken)
        progress(turn + 1, warm_up + rounds)
    return [Timing(name, tuple(values)) for name, values in seconds.items()]


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The p of ``seconds ≈ c · size ** p``, by least squares over logarithms."""
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, seconds))).slope


def machine() -> dict[str, str | int]:
    """What figures depend on, without names of hosts or people."""
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; all but the first align right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        first, *rest = zip(row, widths, strict=True)
        return f"| {' | '.join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])} |"

    rule = f"| {' | '.join(['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])])} |"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def kept_rows(name: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The rows of a result that was kept, for benchmarks that are run part by part."""
    path = folder / f"{name}.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def merged_rows(
    before: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]], *keys: str
) -> list[dict[str, Any]]:
    """Rows in place of earlier ones with the same keys, by the first key and then the others, numbers from the largest.

    Args:
        keys: the fields that tell rows apart: a name, then numbers or names.
    """

    def order(part: Any) -> Any:
        return part if isinstance(part, str) else -part

    merged = {tuple(row[key] for key in keys): dict(row) for row in (*before, *rows)}
    return [merged[key] for key in sorted(merged, key=lambda key: (*map(order, key),))]


def write_results(name: str, data: Mapping[str, object], text: str, folder: Path = RESULTS) -> None:
    """Keep a result as ``NAME.json`` for programs and ``NAME.md`` for people, with the machine it was measured on."""
    folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    (folder / f"{name}.json").write_text(json.dumps({"machine": about, **data}, indent=2) + "\n", encoding="utf-8")
    described = " · ".join(f"{key} {value}" for key, value in about.items())
    (folder / f"{name}.md").write_text(f"{described}\n\n{text}\n", encoding="utf-8")

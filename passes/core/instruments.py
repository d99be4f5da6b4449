"""What watches a pipeline: timing, text dumps, numeric verification, a veto. Instruments never change a Program."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from penstock.passes.core import reference
from penstock.passes.core.base import Pass
from penstock.passes.core.errors import VerificationError
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program
from penstock.passes.core.verify import Difference, compare_outputs, first_divergence


class Instrument:
    """Hooks around the passes of one pipeline run. Override what you need."""

    def start(self, program: Program, passes: Sequence[Pass]) -> None:
        """Called once before the first pass."""

    def should_run(self, current: Pass, program: Program) -> bool:
        """Return False to veto a pass."""
        return True

    def before(self, current: Pass, program: Program) -> None:
        """Called before a pass runs."""

    def after(self, current: Pass, before: Program, after: Program) -> None:
        """Called after a pass ran; `after is before` when it changed nothing."""

    def finish(self, program: Program) -> None:
        """Called once after the last pass."""


@dataclass(frozen=True)
class Timing:
    """What one pass cost and did."""

    name: str
    seconds: float
    nodes_before: int
    nodes_after: int
    changed: bool


class Timer(Instrument):
    """Seconds and node counts per pass, in `timings`."""

    def __init__(self) -> None:
        self.timings: list[Timing] = []
        self._began = 0.0

    def before(self, current: Pass, program: Program) -> None:
        self._began = time.perf_counter()

    def after(self, current: Pass, before: Program, after: Program) -> None:
        seconds = time.perf_counter() - self._began
        row = Timing(current.name(), seconds, before.node_count, after.node_count, after is not before)
        self.timings.append(row)


class Dump(Instrument):
    """Write the Program as text after each pass, as ``003-dead-code.txt``.

    Args:
        folder: where to write; made if missing.
        only_changes: skip passes that changed nothing.
    """

    def __init__(self, folder: Path, only_changes: bool = True) -> None:
        self.folder = folder
        self.only_changes = only_changes
        self._count = 0

    def start(self, program: Program, passes: Sequence[Pass]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("captured", program)

    def after(self, current: Pass, before: Program, after: Program) -> None:
        self._count += 1
        if after is not before or not self.only_changes:
            self._write(current.name(), after)

    def _write(self, name: str, program: Program) -> None:
        path = self.folder / f"{self._count:03d}-{name}.txt"
        path.write_text(format_program(program, sources=True), encoding="utf-8")


class Skip(Instrument):
    """Veto passes by name."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def should_run(self, current: Pass, program: Program) -> bool:
        return current.name() not in self.names


class Progress(Instrument):
    """Call a function with the name of each pass as it starts, and how many are done of how many."""

    def __init__(self, report: Callable[[str, int, int], None]) -> None:
        self._report = report
        self._done = 0
        self._total = 0

    def start(self, program: Program, passes: Sequence[Pass]) -> None:
        self._total = len(passes)

    def before(self, current: Pass, program: Program) -> None:
        self._report(current.name(), self._done, self._total)
        self._done += 1


class Verify(Instrument):
    """Run the Program after each pass that changed it, and compare its outputs with the captured model's.

    An exact pass whose outputs move by more than rounding stops the pipeline with the first value that differs. What a
    lossy pass costs is kept in `losses`, and later passes are compared with its result.

    Args:
        inputs: one tensor per input; the Program's own examples when None.
        each: compare after each pass. Otherwise only at the end, and a failure is bisected to the first bad pass.
    """

    def __init__(self, inputs: Sequence[torch.Tensor] | None = None, each: bool = True) -> None:
        self.losses: dict[str, list[Difference]] = {}
        self._inputs = inputs
        self._each = each
        self._expected: tuple[torch.Tensor, ...] = ()
        self._history: list[tuple[Pass, Program]] = []
        self._start: Program

    def start(self, program: Program, passes: Sequence[Pass]) -> None:
        self._start = program
        self._inputs = self._inputs if self._inputs is not None else program.examples
        self._expected = reference.run(program, self._inputs)

    def after(self, current: Pass, before: Program, after: Program) -> None:
        if after is before:
            return
        if current.exactness == "lossy":
            self._settle()
            self._measure_loss(current, after)
        elif self._each:
            if not self._agrees(after):
                self._blame(current, before, after)
        else:
            self._history.append((current, after))

    def finish(self, program: Program) -> None:
        self._settle()

    def _settle(self) -> None:
        """Check the last Program of the exact passes since the last check; bisect to the first bad one."""
        if self._history and not self._agrees(self._history[-1][1]):
            low, high = 0, len(self._history) - 1
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self._agrees(self._history[middle][1]) else (low, middle)
            culprit, after = self._history[low]
            self._blame(culprit, self._history[low - 1][1] if low else self._start, after)
        if self._history:
            self._start = self._history[-1][1]
        self._history = []

    def _measure_loss(self, current: Pass, after: Program) -> None:
        assert self._inputs is not None
        inputs = [tensor.to(spec.dtype) for tensor, spec in zip(self._inputs, after.signature.inputs, strict=True)]
        actual = reference.run(after, inputs)
        self.losses[current.name()] = compare_outputs(after, self._expected, actual)
        self._inputs, self._expected, self._start = inputs, actual, after

    def _differences(self, program: Program) -> list[Difference]:
        assert self._inputs is not None
        return compare_outputs(program, self._expected, reference.run(program, self._inputs))

    def _agrees(self, program: Program) -> bool:
        return all(difference.ok for difference in self._differences(program))

    def _blame(self, culprit: Pass, before: Program, after: Program) -> None:
        assert self._inputs is not None
        worst = [str(difference) for difference in self._differences(after) if not difference.ok]
        where = first_divergence(before, after, self._inputs)
        raise VerificationError(
            f"pass '{culprit.name()}' calls itself exact but changed the outputs:\n  "
            + "\n  ".join(worst)
            + (f"\n  first value that differs: {where}" if where else "\n  no value of the same name differs before it")
        )

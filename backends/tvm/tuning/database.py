"""The file that remembers measurements: one JSON object per line, appended as soon as it is known.

A line says how long a kernel took with a choice of its schedule's numbers, relative to the rule's own choice, both
measured in turns. Several runs, and several machines of one kind, may add to one file; a stopped search goes on where
it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from penstock.backends.tvm.schedules.tunable import Choice, Question
from penstock.passes.core.errors import UsageError

VERSION = 1
_NOISE = 0.03
"""A gain smaller than this part is none."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Trial:
    """One measurement.

    Attributes:
        key: of the question.
        rule: the schedule.
        kernel: its buffers, for people.
        device: what measured it.
        choice: the numbers.
        seconds: per run; None where the choice cannot be built or run.
        ratio: of that time to the time of the rule's own choice, measured in turns; below 1 is faster.
    """

    key: str
    rule: str
    kernel: str
    device: str
    choice: dict[str, int]
    seconds: float | None
    ratio: float | None
    version: int = VERSION


_LINE = TypeAdapter(Trial)


class Database:
    """The measurements in a file.

    Args:
        path: the file; one that is not there is made by the first `add`.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._half_written = False
        self._trials: dict[str, dict[tuple[tuple[str, int], ...], Trial]] = {}
        for trial in self._read():
            self._hold(trial)

    def add(self, trial: Trial) -> None:
        """Append one measurement."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"), self.path.open("ab") as file:
                file.write(b"\n" * self._half_written + _LINE.dump_json(trial) + b"\n")
            self._half_written = False
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror}") from error
        self._hold(trial)

    def tried(self, question: Question) -> dict[tuple[tuple[str, int], ...], Trial]:
        """What is known of a question, by the items of the choice, sorted."""
        return self._trials.get(question.key, {})

    def best(self, question: Question) -> Trial | None:
        """The fastest choice that the question still offers, if it beats the rule's own."""
        offered = {frozen(choice) for choice in question.choices}
        known = [trial for choice, trial in self.tried(question).items() if choice in offered and trial.ratio]
        found = min(known, key=lambda trial: trial.ratio or 1.0, default=None)
        return found if found is not None and found.ratio is not None and found.ratio < 1 - _NOISE else None

    def choose(self, question: Question) -> Choice:
        """The best known choice, else the rule's own: decisions for a compilation."""
        best = self.best(question)
        return question.choices[0] if best is None else best.choice

    def _hold(self, trial: Trial) -> None:
        self._trials.setdefault(trial.key, {})[frozen(trial.choice)] = trial

    def _read(self) -> Iterator[Trial]:
        if not self.path.exists():
            return
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error
        for number, line in enumerate(lines, 1):
            try:
                trial = _LINE.validate_json(line)
            except ValidationError as error:
                if _is_half(line):  # a search was stopped while it wrote
                    self._half_written = number == len(lines)
                    continue
                raise UsageError(f"{self.path}, line {number} is no measurement: {_reason(error)}") from error
            if trial.version != VERSION:
                raise UsageError(f"{self.path}, line {number} has version {trial.version}, expected {VERSION}")
            yield trial


def _is_half(line: bytes) -> bool:
    """Whether a line begins like a measurement and breaks off."""
    whole = not line.strip() or line.rstrip().endswith(b"}")
    return not whole and line.startswith(b'{"key":'[: len(line)])


def frozen(choice: Choice) -> tuple[tuple[str, int], ...]:
    """A choice as a key."""
    return tuple(sorted(choice.items()))


def _reason(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"

"""Schedules with a few numbers to choose: tile sizes, vectors, unrolling.

A rule names its choices and which one it would take; what is taken is decided elsewhere: by default the rule's own, and
under `deciding` what a database of measurements says, or what a tuner wants to measure next.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

from tvm import tirx
from tvm.s_tir import dlight

Choice = Mapping[str, int]
"""The numbers of a schedule by name."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a rule asks before it schedules a kernel.

    Attributes:
        rule: the name of the rule.
        function: the kernel without a schedule.
        target: the TVM target.
        choices: what it may be, the rule's own choice first; at least one.
    """

    rule: str
    function: Any
    target: Any
    choices: tuple[Choice, ...]

    @cached_property
    def key(self) -> str:
        """A fingerprint of the rule, the kernel and the target, the same in every process."""
        kernel = tirx.PrimFunc(self.function.params, self.function.body).script(show_meta=False)
        return hashlib.sha256("\n".join((self.rule, kernel, str(self.target))).encode()).hexdigest()[:24]

    @property
    def kernel(self) -> str:
        """The kernel's buffers, for people: ``float32[64,32] float32[32,32] float32[64,32]``."""
        shapes = [",".join(str(int(extent)) for extent in buffer.shape) for buffer in self.function.params]
        pairs = zip(self.function.params, shapes, strict=True)
        return " ".join(f"{buffer.dtype}[{shape}]" for buffer, shape in pairs)


class Decisions(Protocol):
    """Who decides."""

    def choose(self, question: Question) -> Choice:
        """One of the question's choices."""
        ...


class RulesOwn:
    """Each rule's own choice."""

    def choose(self, question: Question) -> Choice:
        """The first."""
        return question.choices[0]


_deciding: ContextVar[Decisions] = ContextVar("deciding", default=RulesOwn())  # noqa: B039  (it has no state)


@contextlib.contextmanager
def deciding(decisions: Decisions) -> Iterator[None]:
    """Let somebody else decide for all kernels that are scheduled meanwhile."""
    token = _deciding.set(decisions)
    try:
        yield
    finally:
        _deciding.reset(token)


def decide(rule: str, function: Any, target: Any, choices: tuple[Choice, ...]) -> Choice:
    """What to take for a kernel of those choices."""
    return choices[0] if len(choices) == 1 else _deciding.get().choose(Question(rule, function, target, choices))


class TunableRule(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A rule that asks before it schedules."""

    name: ClassVar[str]

    def choices(self, function: Any, target: Any) -> tuple[Choice, ...]:
        """What the schedule of a kernel may be, the rule's own choice first; () if it does not take the kernel."""
        raise NotImplementedError

    def scheduled(self, function: Any, target: Any, choice: Choice) -> Any:
        """The schedule with those numbers."""
        raise NotImplementedError

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        """What dlight calls."""
        choices = self.choices(func, target)
        return self.scheduled(func, target, decide(self.name, func, target, choices)) if choices else None

"""The search: where the time goes, measure another choice; remember it; stop when the seconds are over."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import tvm
from tvm import tirx

from penstock.backends.targets import Target
from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.pipeline import fused
from penstock.backends.tvm.schedules.rules import rules_for
from penstock.backends.tvm.schedules.tunable import Choice, Question, deciding
from penstock.backends.tvm.target import tvm_target
from penstock.backends.tvm.tuning.database import Database, Trial, frozen
from penstock.backends.tvm.tuning.measure import Bench, Measured
from penstock.passes.core.errors import PenstockError
from penstock.passes.core.program import Program

Report = Callable[[str, int, int], None]
_log = logging.getLogger(__name__)


class _Collect:
    """Takes every rule's own choice, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[Question] = []

    def choose(self, question: Question) -> Choice:
        self.asked.append(question)
        return question.choices[0]


def questions(program: Program, target: Target) -> dict[Question, int]:
    """What the schedules of a legalised Program's kernels ask, and how often a run of the Program needs the answer."""
    built_for = tvm_target(target)
    with built_for:
        module = fused(lower(program).module, built_for).module
    runs: Counter[str] = Counter()
    for call, times in program.plan.calls():
        for block in module[call.graph].body.blocks:
            for binding in block.bindings:
                if getattr(getattr(binding.value, "op", None), "name", "") == "relax.call_tir":
                    runs[binding.value.args[0].name_hint] += times
    found: dict[str, tuple[Question, int]] = {}
    for name, function in module.functions_items():
        if runs[name.name_hint] and isinstance(function, tirx.PrimFunc):
            collect = _Collect()
            with built_for, deciding(collect):
                rules_for(built_for)(tvm.IRModule({name: function}))
            for question in collect.asked:
                _, before = found.get(question.key, (question, 0))
                found[question.key] = question, before + runs[name.name_hint]
    return dict(found.values())


@dataclass
class Task:
    """One question while it is being searched.

    Attributes:
        runs: how often a run of the model needs it.
        left: choices that are not measured yet, in the order in which they will be.
        seconds: of the best choice so far, None before anything is measured.
        best: its ratio to the rule's own.
        measured: how many choices this search measured.
    """

    question: Question
    runs: int
    left: list[Choice]
    seconds: float | None = None
    best: float = 1.0
    measured: int = 0
    bench: Bench | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        tasks: the kernels that have a choice.
        measured: choices measured now.
        known: choices that the database knew already.
        left: choices not measured.
    """

    tasks: Sequence[Task]
    measured: int
    known: int
    left: int

    @property
    def improved(self) -> list[Task]:
        """The tasks for which something better than the rule's own choice is known, the largest gain first."""
        return sorted((task for task in self.tasks if task.best < 1), key=lambda task: task.best)


def tune(
    questions: Mapping[Question, int],
    database: Database,
    seconds: float,
    bench: Callable[[Question], Bench],
    device: str,
    report: Report = lambda text, done, total: None,
    seed: int = 0,
) -> Outcome:
    """Measure choices until the time is over or nothing is left.

    The next kernel to be measured is the one that takes most of the model's time per measurement it had so far.

    Args:
        questions: what may be chosen, and how often a run of the model needs it.
        database: takes every measurement at once; what it knows is not measured again.
        seconds: to spend.
        bench: measures one kernel.
        device: what measures, to be noted.
        report: is told what is being measured, the seconds spent, and of how many.
        seed: of the order in which choices are measured.
    """
    began = time.monotonic()
    tasks = [_task(question, runs, database, seed) for question, runs in questions.items()]
    known = sum(len(task.question.choices) - 1 - len(task.left) for task in tasks)
    measured = 0
    while time.monotonic() - began < seconds and (task := _next(tasks)) is not None:
        report(f"{task.question.rule} {task.question.kernel}", int(time.monotonic() - began), int(seconds))
        if task.bench is None:
            try:
                task.bench = bench(task.question)
            except PenstockError as error:
                _log.warning("%s %s cannot be measured: %s", task.question.rule, task.question.kernel, error)
                task.left.clear()
                continue
            task.seconds = task.bench.seconds * task.best
            continue  # all kernels are timed once before any is searched
        choice = task.left.pop(0)
        found = _measure(task, choice)
        _note(database, task.question, device, choice, found)
        measured += 1
        task.measured += 1
        best = database.best(task.question)
        if best is not None and best.ratio is not None:
            task.best, task.seconds = best.ratio, best.seconds
    return Outcome(tasks, measured, known, sum(len(task.left) for task in tasks))


def _task(question: Question, runs: int, database: Database, seed: int) -> Task:
    tried = database.tried(question)
    left = [choice for choice in question.choices[1:] if frozen(choice) not in tried]
    random.Random(f"{seed} {question.key}").shuffle(left)
    best = database.best(question)
    return Task(question, runs, left, best=best.ratio if best is not None and best.ratio is not None else 1.0)


def _next(tasks: Sequence[Task]) -> Task | None:
    open_ = [task for task in tasks if task.left]
    for task in open_:
        if task.seconds is None:
            return task
    return max(open_, key=lambda task: (task.seconds or 0.0) * task.runs / (1 + task.measured), default=None)


def _measure(task: Task, choice: Choice) -> Measured | None:
    """None where the choice cannot be built or run."""
    assert task.bench is not None
    try:
        return task.bench.measure(choice)
    except PenstockError as error:
        _log.info("%s with %s: %s", task.question.rule, dict(choice), error)
        return None


def _note(database: Database, question: Question, device: str, choice: Choice, found: Measured | None) -> None:
    database.add(
        Trial(
            key=question.key,
            rule=question.rule,
            kernel=question.kernel,
            device=device,
            choice=dict(choice),
            seconds=None if found is None else found.seconds,
            ratio=None if found is None else found.ratio,
        )
    )

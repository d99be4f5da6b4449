from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tvm
from tvm.script import tirx as T

from penstock.backends.tvm.schedules.tunable import Question, deciding
from penstock.backends.tvm.tuning.database import Database
from penstock.backends.tvm.tuning.measure import Measured
from penstock.backends.tvm.tuning.tuner import tune
from penstock.passes.core.errors import UsageError

TILES = ({"tile": 1}, {"tile": 2}, {"tile": 4}, {"tile": 8})


def question(size: int) -> Question:
    @T.prim_func(private=True, s_tir=True)
    def copy(source: T.handle, target: T.handle):  # type: ignore[no-untyped-def]
        x = T.match_buffer(source, (size,), "float32")
        y = T.match_buffer(target, (size,), "float32")
        for i in range(size):
            with T.sblock("copy"):
                vi = T.axis.remap("S", [i])
                y[vi] = x[vi]

    return Question("copy", copy, tvm.target.Target("llvm"), TILES)


@dataclass
class Pretended:
    """A bench on which tile 4 is fastest, and tile 8 does not build."""

    question: Question
    seconds: float
    measured: list[int] = field(default_factory=list)

    def measure(self, choice: dict[str, int]) -> Measured:
        self.measured.append(choice["tile"])
        if choice["tile"] == 8:
            raise UsageError("too large")
        ratio = {2: 0.9, 4: 0.5}[choice["tile"]]
        return Measured(self.seconds * ratio, ratio)


def test_every_choice_is_measured_and_the_best_one_kept(tmp_path: Path) -> None:
    asked = question(64)
    outcome = tune({asked: 1}, Database(tmp_path / "t"), 60, lambda q: Pretended(q, 1.0), "a device")
    assert (outcome.measured, outcome.known, outcome.left) == (3, 0, 0)
    assert [task.best for task in outcome.improved] == [0.5]
    with deciding(Database(tmp_path / "t")):
        assert Database(tmp_path / "t").choose(asked) == {"tile": 4}


def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Pretended(question(64), 1.0)
    tune({first.question: 1}, Database(tmp_path / "t"), 60, lambda _: first, "a device")
    second = Pretended(question(64), 1.0)
    outcome = tune({second.question: 1}, Database(tmp_path / "t"), 60, lambda _: second, "a device")
    assert (outcome.measured, outcome.known, second.measured) == (0, 3, [])


def test_no_time_measures_nothing(tmp_path: Path) -> None:
    outcome = tune({question(64): 1}, Database(tmp_path / "t"), 0, lambda q: Pretended(q, 1.0), "a device")
    assert (outcome.measured, outcome.left) == (0, 3)
    assert not (tmp_path / "t").exists()


def test_the_kernel_that_takes_most_of_the_models_time_comes_first(tmp_path: Path) -> None:
    order: list[int] = []

    class Noting(Pretended):
        def measure(self, choice: dict[str, int]) -> Measured:
            order.append(int(self.question.function.params[0].shape[0]))
            return super().measure(choice)

    asked = {question(64): 1, question(128): 10, question(256): 1}
    seconds = {64: 3.0, 128: 1.0, 256: 0.1}
    tune(asked, Database(tmp_path / "t"), 60, lambda q: Noting(q, seconds[int(q.function.params[0].shape[0])]), "d")
    assert order[0] == 128
    assert order[-1] == 256


def test_a_fingerprint_is_of_the_kernel_the_rule_and_the_target() -> None:
    assert question(64).key == question(64).key
    assert question(64).key != question(128).key
    other = question(64)
    assert Question("another", other.function, other.target, TILES).key != other.key
    assert Question("copy", other.function, tvm.target.Target("opencl"), TILES).key != other.key
    assert question(64).kernel == "float32[64] float32[64]"

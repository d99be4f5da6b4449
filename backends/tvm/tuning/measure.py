"""Timing one kernel with two choices of its schedule, in turns, through the native runner."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
import tvm
from tvm import relax

from penstock.backends.runner import Runner
from penstock.backends.targets import Target
from penstock.backends.tvm.build import compile_module
from penstock.backends.tvm.nests import nests
from penstock.backends.tvm.schedules.tunable import Choice, Question, deciding
from penstock.backends.tvm.standalone import load_compiled
from penstock.backends.tvm.target import tvm_target
from penstock.passes.core.program import Plan, Signature, TensorSpec
from penstock.passes.core.shapes import dtype_named

ROUNDS = 5
SECONDS = 0.05
"""How long a kernel runs in one round, at least; short ones run many times."""
_MOST_RUNS = 200


@dataclass(frozen=True)
class Measured:
    """A choice against the rule's own: its seconds per run, and the ratio of the two, a median over rounds."""

    seconds: float
    ratio: float


class Bench(Protocol):
    """One kernel on a device.

    Attributes:
        seconds: of one run with the rule's own choice.
    """

    seconds: float

    def measure(self, choice: Choice) -> Measured:
        """Time a choice and the rule's own in turns."""
        ...


class LocalBench:
    """One kernel on a device of this machine, with the rule's own choice loaded to compare with.

    Args:
        question: the kernel.
        target: a device that is here.
    """

    def __init__(self, question: Question, target: Target) -> None:
        self._question, self._target = question, target
        self._inputs = [filled(spec) for spec in border(question.function)[0]]
        self._own = _loaded(question, question.choices[0], target)
        self._seconds(self._own, 1)
        once = self._seconds(self._own, 1)
        self._runs = max(1, min(_MOST_RUNS, int(SECONDS / max(once, 1e-9))))
        self.seconds = median(self._seconds(self._own, self._runs) for _ in range(ROUNDS))

    def measure(self, choice: Choice) -> Measured:
        """Time a choice and the rule's own in turns. One that is hopeless is given up after a round."""
        runner = _loaded(self._question, choice, self._target)
        self._seconds(runner, 1)
        times: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            times.append((self._seconds(runner, self._runs), self._seconds(self._own, self._runs)))
            if times[0][0] > 2 * times[0][1]:
                break
        return Measured(median(mine for mine, _ in times), median(mine / own for mine, own in times))

    def _seconds(self, runner: Runner, runs: int) -> float:
        return sum(time.seconds for time in runner.profile(self._inputs, runs)) / runs


class One:
    """Decides one question, and leaves others to their rules."""

    def __init__(self, key: str, choice: Choice) -> None:
        self._key, self._choice = key, choice

    def choose(self, question: Question) -> Choice:
        """The choice that is to be measured."""
        return self._choice if question.key == self._key else question.choices[0]


def _loaded(question: Question, choice: Choice, target: Target) -> Runner:
    """A kernel alone, compiled with a choice."""
    built_for = tvm_target(target)
    inputs, outputs = border(question.function)
    with tempfile.TemporaryDirectory(prefix="penstock-tune-") as name, deciding(One(question.key, choice)):
        module = _module(question.function, inputs, outputs)
        compiled = compile_module(module, {"main": ()}, target, built_for)
        plan = Plan.single("main", tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs))
        return load_compiled(compiled, plan, Signature(inputs, outputs, {}, {}), {}, target, Path(name))


def _module(function: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tvm.IRModule:
    """A Relax module whose function ``main`` calls a kernel."""
    builder = relax.BlockBuilder()
    parameters = [relax.Var(spec.name, _type(spec)) for spec in inputs]
    with builder.function("main", parameters):
        with builder.dataflow():
            types = [_type(spec) for spec in outputs]
            callee = builder.add_func(function, "kernel")
            made = builder.emit(relax.call_tir(callee, parameters, types if len(types) > 1 else types[0]))
            result = builder.emit_output(made if len(types) > 1 else relax.Tuple([made]))
        builder.emit_func_output(result)
    return builder.finalize()


def border(function: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What a TIR function reads, and what it writes: its last parameters."""
    written = {
        nest.buffers[index].position
        for nest in nests(function)
        for index in nest.writes
        if not nest.buffers[index].is_temporary
    }
    specs = [
        TensorSpec(f"t{index}", tuple(int(extent) for extent in buffer.shape), dtype_named(str(buffer.dtype)))
        for index, buffer in enumerate(function.params)
    ]
    return tuple(specs[: len(specs) - len(written)]), tuple(specs[len(specs) - len(written) :])


def _type(spec: TensorSpec) -> Any:
    return relax.TensorType(spec.shape, str(spec.dtype).removeprefix("torch."))


def filled(spec: TensorSpec) -> torch.Tensor:
    """Numbers that no kernel trips over: small, and valid as indices."""
    if spec.dtype.is_floating_point:
        return torch.rand(spec.shape, generator=torch.Generator().manual_seed(0)).to(spec.dtype)
    return torch.zeros(spec.shape, dtype=spec.dtype)

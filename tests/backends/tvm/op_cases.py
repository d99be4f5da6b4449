"""Checking many operators at once: one Program with a graph per case, lowered and built together."""

from __future__ import annotations

import operator
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.fx import Graph
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from penstock.passes.core import verify
from penstock.passes.core.graphs import make_module
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec
from penstock.passes.core.shapes import fake_like, infer
from tests.backends.tvm.execute import runner_of, simulation_of


@dataclass(frozen=True)
class Case:
    """One operator called with tensors (they become inputs) and constants (they stay in the graph)."""

    operator: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def expected(self) -> list[torch.Tensor]:
        """What torch gives, in float32 and rounded where it has no kernel for float16."""
        try:
            result = self.operator(*self.args, **self.kwargs)
        except NotImplementedError:
            args, kwargs = tree_map_only(torch.Tensor, torch.Tensor.float, (self.args, self.kwargs))
            result = tree_map_only(torch.Tensor, torch.Tensor.half, self.operator(*args, **kwargs))
        return [result] if isinstance(result, torch.Tensor) else list(result)

    def inputs(self) -> list[torch.Tensor]:
        return [leaf for leaf in tree_flatten((self.args, self.kwargs))[0] if isinstance(leaf, torch.Tensor)]


def case(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Case:
    """A `Case`, written as the call is."""
    return Case(operator, args, kwargs)


def halved(item: Case) -> Case:
    """The same call on float16 tensors."""

    def half(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.half() if tensor.is_floating_point() else tensor

    args, kwargs = tree_map_only(torch.Tensor, half, (item.args, item.kwargs))
    return Case(item.operator, args, kwargs)


def numbered(cases: Sequence[Case]) -> dict[str, Case]:
    """Names for cases: the operator's, and how many of it came before."""
    named: dict[str, Case] = {}
    for item in cases:
        stem = re.sub(r"\W+", "_", str(item.operator).removeprefix("aten."))
        named[f"{stem}_{sum(name.rpartition('_')[0] == stem for name in named)}"] = item
    return named


def program_of(cases: dict[str, Case]) -> Program:
    """One graph per case, called one after the other. The inputs and outputs of a case are named after it."""
    calls, inputs, outputs, examples = [], [], [], []
    for name, item in cases.items():
        args = [_spec(f"{name}.input{index}", tensor) for index, tensor in enumerate(item.inputs())]
        results = [_spec(f"{name}.output{index}", tensor) for index, tensor in enumerate(item.expected())]
        calls.append(Call(name, tuple(spec.name for spec in args), tuple(spec.name for spec in results)))
        inputs += args
        outputs += results
        examples += item.inputs()
    return Program(
        {name: _graph(item) for name, item in cases.items()},
        Plan((Phase("main", (tuple(calls),)),)),
        Signature(tuple(inputs), tuple(outputs), {"tuple": []}, {"tuple": []}),
        tuple(examples),
    )


def _spec(name: str, tensor: torch.Tensor) -> TensorSpec:
    return TensorSpec(name, tuple(tensor.shape), tensor.dtype)


def _graph(item: Case) -> torch.fx.GraphModule:
    graph = Graph()
    leaves, spec = tree_flatten((item.args, item.kwargs))
    values = []
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            node = graph.placeholder(f"input_{len(values)}")
            node.meta["val"] = fake_like(leaf)
            values.append(node)
        else:
            values.append(leaf)
    args, kwargs = tree_unflatten(values, spec)
    node = graph.call_function(item.operator, args, kwargs)
    node.meta["val"] = infer(item.operator, args, kwargs)
    if isinstance(node.meta["val"], torch.Tensor):
        graph.output((node,))
        return make_module({}, graph)
    parts = []
    for position, value in enumerate(node.meta["val"]):
        part = graph.call_function(operator.getitem, (node, position))
        part.meta["val"] = value
        parts.append(part)
    graph.output(tuple(parts))
    return make_module({}, graph)


class Built:
    """Cases lowered, built for a device of this machine, or for a phone's GPU that is simulated, and loaded."""

    def __init__(self, cases: dict[str, Case], target: str = "llvm") -> None:
        self.cases = cases
        self._program = program_of(cases)
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-")
        load = runner_of if target in ("llvm", "opencl") else simulation_of
        self._runner = load(self._program, Path(self._folder.name), target)
        self._own = self._run({})

    def _run(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        signature = self._program.signature
        pairs = zip(signature.inputs, self._program.examples, strict=True)
        results = self._runner.run([given.get(spec.name, example) for spec, example in pairs])
        return dict(zip((spec.name for spec in signature.outputs), results, strict=True))

    def source(self) -> str:
        """The source of all kernels of a GPU."""
        return "".join(path.read_text() for path in sorted(Path(self._folder.name).glob("kernels/*")))

    def run(self, name: str, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The results of a case, on its own inputs unless others are given."""
        given = {f"{name}.input{index}": tensor for index, tensor in enumerate(inputs)}
        results = self._run(given) if given else self._own
        return [results[f"{name}.output{index}"] for index in range(len(self.cases[name].expected()))]

    def check(self, name: str, tolerance: float, least_scale: float = 1.0) -> None:
        """Run a case and compare with torch; see `verify.compare`."""
        for position, (wanted, found) in enumerate(zip(self.cases[name].expected(), self.run(name), strict=True)):
            assert found.dtype == wanted.dtype
            difference = verify.compare(f"{name}[{position}]", wanted, found, tolerance, least_scale)
            assert difference.ok, f"{difference}\nexpected {wanted}\nfound {found}"

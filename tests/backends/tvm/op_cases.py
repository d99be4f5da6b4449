"""Checking many operators at once: one Program with a graph per case, lowered and built together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from torch.fx import Graph
from torch.utils._pytree import tree_flatten, tree_unflatten
from tvm import relax

from penstock.backends.tvm.lower import Lowered, lower
from penstock.passes.core import verify
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature
from penstock.passes.core.rewriter import make_module
from penstock.passes.core.shapes import fake_like, infer

GPU = tvm.target.Target(
    {"kind": "opencl", "max_threads_per_block": 256, "max_shared_memory_per_block": 32768}, host="llvm"
)
METAL = tvm.target.Target(
    {
        "kind": "metal",
        "max_threads_per_block": 256,
        "max_shared_memory_per_block": 32768,
        "thread_warp_size": 32,
    },
    host="llvm",
)


@dataclass(frozen=True)
class Case:
    """One operator called with tensors (they become inputs) and constants (they stay in the graph)."""

    operator: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def expected(self) -> list[torch.Tensor]:
        result = self.operator(*self.args, **self.kwargs)
        return [result] if isinstance(result, torch.Tensor) else list(result)

    def inputs(self) -> list[torch.Tensor]:
        return [leaf for leaf in tree_flatten((self.args, self.kwargs))[0] if isinstance(leaf, torch.Tensor)]


def case(operator: Callable[..., Any], *args: Any, **kwargs: Any) -> Case:
    """A `Case`, written as the call is."""
    return Case(operator, args, kwargs)


def numbered(cases: Sequence[Case]) -> dict[str, Case]:
    """Names for cases: the operator's, and how many of it came before."""
    named: dict[str, Case] = {}
    for item in cases:
        stem = re.sub(r"\W+", "_", str(item.operator).removeprefix("aten."))
        named[f"{stem}_{sum(name.rpartition('_')[0] == stem for name in named)}"] = item
    return named


def program_of(cases: dict[str, Case]) -> Program:
    """One graph per case. The plan runs nothing: the graphs are called by name."""
    return Program(
        {name: _graph(item) for name, item in cases.items()},
        Plan((Phase("main", ((),)),)),
        Signature((), (), {"tuple": []}, {"tuple": []}),
        (),
    )


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
        part = graph.call_function(lambda t, i: t[i], (node, position))
        part.target = __import__("operator").getitem
        part.meta["val"] = value
        parts.append(part)
    graph.output(tuple(parts))
    return make_module({}, graph)


class Built:
    """Cases lowered and built for the CPU."""

    def __init__(self, cases: dict[str, Case]) -> None:
        self.cases = cases
        target = tvm.target.Target("llvm")
        with target:
            module = lower(program_of(cases)).module
        self.machine = relax.VirtualMachine(relax.build(module, target), tvm.cpu())

    def check(self, name: str, tolerance: float) -> None:
        """Run a case and compare with torch."""
        item = self.cases[name]
        actual = self.machine[name](*(tvm.runtime.tensor(tensor.contiguous().numpy()) for tensor in item.inputs()))
        for position, (wanted, got) in enumerate(zip(item.expected(), actual, strict=True)):
            found = torch.from_numpy(got.numpy().copy())
            assert found.dtype == wanted.dtype
            difference = verify.compare(f"{name}[{position}]", wanted, found, tolerance)
            assert difference.ok, f"{difference}\nexpected {wanted}\nfound {found}"

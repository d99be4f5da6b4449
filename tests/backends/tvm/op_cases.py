"""Checking many operators at once: one Program with a graph per case, lowered and built together."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from torch.fx import Graph
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from tvm import relax

from penstock.backends.targets import find_target
from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.pipeline import relax_pipeline
from penstock.backends.tvm.target import tvm_target
from penstock.passes.core import verify
from penstock.passes.core.program import Phase, Plan, Program, Signature
from penstock.passes.core.rewriter import make_module
from penstock.passes.core.shapes import fake_like, infer

_COMMON = (
    r"acosh?|asinh?|atan[h2]?|ceil|cosh?|exp2?|fabs|abs|floor|fmod|log2?|max|min|pow|rint|select|sinh?|sqrt|tanh?|trunc"
)
_LANGUAGE = r"\w+_kernel(_\d+)?|if|for|while|return|sizeof|(bool|u?char|u?short|u?int|u?long|half|float)\d*"
_CALLS = {
    "opencl": rf"{_COMMON}|{_LANGUAGE}|erf|barrier|get_group_id|get_local_id|convert_\w+|v(load|store)(_half)?\d+",
    "metal": rf"{_COMMON}|{_LANGUAGE}|threadgroup_barrier|simdgroup_barrier|mem_flags|simd_shuffle(_down)?|as_type",
}
"""What a kernel may call: functions of OpenCL C 1.2 and of Metal. TVM's C spellings (`tanf`) are in neither."""


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
        part = graph.call_function(operator.getitem, (node, position))
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
        self.machine = relax.VirtualMachine(
            relax.build(module, target, relax_pipeline=relax_pipeline(target)), tvm.cpu()
        )

    def run(self, name: str, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The results of a case, on its own inputs unless others are given."""
        inputs = inputs or tuple(self.cases[name].inputs())
        results = self.machine[name](*(tvm.runtime.tensor(tensor.contiguous().numpy()) for tensor in inputs))
        return [torch.from_numpy(result.numpy().copy()) for result in results]

    def check(self, name: str, tolerance: float) -> None:
        """Run a case and compare with torch."""
        for position, (wanted, found) in enumerate(zip(self.cases[name].expected(), self.run(name), strict=True)):
            assert found.dtype == wanted.dtype
            difference = verify.compare(f"{name}[{position}]", wanted, found, tolerance)
            assert difference.ok, f"{difference}\nexpected {wanted}\nfound {found}"


def check_gpu_source(cases: dict[str, Case], device: str) -> None:
    """Build cases for a GPU; every function that the kernels call must exist there."""
    kind, target = find_target(device).kind, tvm_target(find_target(device))
    with target:
        module = lower(program_of(cases)).module
    executable = relax.build(module, target, relax_pipeline=relax_pipeline(target))
    source = "".join(part.inspect_source("") for part in executable.mod.imports[0].imports)
    code = re.sub(r"//.*|#.*|\[\[.*?\]\]", "", source)
    called = set(re.findall(r"\b([a-z]\w*)\s*\(", code))
    unknown = {name for name in called if not re.fullmatch(_CALLS[kind], name)}
    assert not unknown, f"{kind} has no {sorted(unknown)}"

"""TVM's own virtual machine, fed with the same kernels: what the native runner and its planner are measured against."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import tvm
from tvm import relax

from penstock.backends.targets import find_target
from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.pipeline import fused, scheduled
from penstock.backends.tvm.target import tvm_target
from penstock.passes.core.program import Program

_ALIGNMENT = 64


Weights = dict[str, tuple[torch.Tensor, ...]]


def planned(program: Program, target: str) -> tuple[tvm.IRModule, tvm.target.Target, Weights]:
    """The scheduled module after TVM's memory planner, the target, and each graph's weights."""
    built_for = tvm_target(find_target(target))
    with built_for:
        lowered = lower(program)
        passes = tvm.transform.Sequential([relax.transform.CallTIRRewrite(), relax.transform.StaticPlanBlockMemory()])
        known = {**program.weights, **lowered.packed}
        weights = {graph: tuple(known[name] for name in names) for graph, names in lowered.weights.items()}
        return passes(scheduled(fused(lowered.module, built_for).module, built_for)), built_for, weights


def planned_bytes(program: Program, target: str = "llvm") -> int:
    """What StaticPlanBlockMemory allocates for activations, plus inputs and outputs, which it leaves to the caller.

    Temporaries inside of a fused function are not in its plan; they come on top at run time.
    """
    module, _, _ = planned(program, target)
    text = "".join(str(module[graph]) for graph in program.graphs)
    storages = re.findall(r"alloc_storage\(R\.shape\(\[(\d+)\]\)", text)
    signature = program.signature
    return sum(map(int, storages)) + sum(spec.nbytes for spec in (*signature.inputs, *signature.outputs))


def export(program: Program, path: Path) -> Weights:
    """Write the library that the virtual machine loads; returns each graph's weights."""
    module, built_for, weights = planned(program, "llvm")
    rest = [
        _with_views_from_zero,
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]
    with built_for:
        executable = relax.build(module, built_for, relax_pipeline=tvm.transform.Sequential(rest))
    executable.export_library(str(path))
    return weights


@relax.expr_functor.mutator
class _ViewsFromZero(relax.PyExprMutator):
    """Kernels of a CPU refuse a tensor with an offset, so the machine has to move its pointer instead."""

    def visit_call_(self, call: Any) -> Any:
        call = super().visit_call_(call)
        if getattr(call.op, "name", "") != "relax.memory.view":
            return call
        return relax.op.memory.ensure_zero_offset(self.builder_.emit(call))


@tvm.transform.module_pass(opt_level=0, name="ViewsFromZero")
def _with_views_from_zero(module: tvm.IRModule, _: Any) -> tvm.IRModule:
    for name, function in module.functions_items():
        if isinstance(function, relax.Function):
            module[name] = _ViewsFromZero(module).visit_expr(function)
    return module


class VirtualMachine:
    """A loaded library of one graph, ``main``.

    Args:
        path: what `export` wrote.
        weights: in the order in which the graph takes them.
    """

    def __init__(self, path: Path, weights: Sequence[torch.Tensor]) -> None:
        self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
        self._weights = [to_tvm(weight) for weight in weights]

    def run(self, inputs: Sequence[Any]) -> Any:
        """Run the graph on tensors of TVM; what it returns is TVM's too."""
        return self._machine["main"](*inputs, *self._weights)


def to_tvm(tensor: torch.Tensor) -> Any:
    """A tensor as TVM takes it; copied only if it is not aligned as TVM asks."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bool:
        return tvm.runtime.tensor(tensor.numpy())
    return tvm.runtime.from_dlpack(tensor.clone() if tensor.data_ptr() % _ALIGNMENT else tensor)

"""From Relax to scheduled kernels: the TVM passes that penstock uses, in order.

TVM's own pipeline for Adreno is never used: it has no rule for matmul and gives every output of a convolution a
work-group of its own. The rules for any GPU, with the limits of the target, do better everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax

from penstock.backends.tvm.legalize_once import legalize_ops
from penstock.backends.tvm.schedules.rules import rules_for


@dataclass(frozen=True)
class Fused:
    """A module in which every operator is a loop nest, and neighbours are one.

    Attributes:
        inside: for each variable of a graph that a fused function makes, by their names, the variables that it makes
            on the way.
    """

    module: tvm.IRModule
    inside: dict[tuple[str, str], tuple[str, ...]]


def fused(module: tvm.IRModule, target: tvm.target.Target) -> Fused:
    """Every operator becomes a loop nest, and neighbours fuse: what schedules are for.

    Constants are not folded here: what is worth storing was folded in the graph, and a mask that a kernel can make
    should not be stored.
    """
    find = tvm.transform.Sequential(
        [
            relax.transform.DeadCodeElimination(),
            relax.backend.DispatchSortScan(),
            legalize_ops(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
        ]
    )
    merge = tvm.transform.Sequential([relax.transform.FuseTIR(), relax.transform.DeadCodeElimination()])
    with target, tvm.transform.PassContext(opt_level=3):
        module = find(module)
        return Fused(merge(module), _inside(module))


def _inside(module: tvm.IRModule) -> dict[tuple[str, str], tuple[str, ...]]:
    found = {}
    for graph, function in module.functions_items():
        for binding in _bindings(function):
            callee = getattr(binding.value, "op", None)
            if isinstance(callee, tvm.ir.GlobalVar):
                made = tuple(str(inner.var.name) for inner in _bindings(module[callee]))
                found[str(graph.name_hint), str(binding.var.name)] = made
    return found


def _bindings(function: Any) -> Iterator[Any]:
    if isinstance(function, relax.Function):
        for block in function.body.blocks:
            yield from block.bindings


def scheduled(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """The loop nests of a fused module get their schedules.

    What is left of the Relax functions is straight-line: calls of TIR functions, and views.
    """
    passes = tvm.transform.Sequential(
        [
            rules_for(target),
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
        ]
    )
    with target, tvm.transform.PassContext(opt_level=3):
        return passes(module)

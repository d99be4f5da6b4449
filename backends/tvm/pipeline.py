"""From Relax to scheduled kernels: the TVM passes that penstock uses, in order.

TVM's own pipeline for Adreno is never used: it has no rule for matmul and gives every output of a convolution a
work-group of its own. The rules for any GPU, with the limits of the target, do better everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import tvm
from tvm import relax

from penstock.backends.tvm.inside import inside
from penstock.backends.tvm.legalize_once import legalize_ops
from penstock.backends.tvm.schedules.rules import rules_for


@dataclass(frozen=True, eq=False)
class Fused:
    """A module in which every operator is a loop nest, and neighbours are one.

    Attributes:
        apart: with neighbours apart.
        together: with a function for each kernel, of calls of loop nests.
        module: with kernels that are one loop nest.
    """

    apart: tvm.IRModule
    together: tvm.IRModule
    module: tvm.IRModule

    @cached_property
    def inside(self) -> dict[tuple[str, str], tuple[str | None, ...]]:
        """For each variable of a graph that a kernel makes, by their names, the variables that it makes on the way."""
        return inside(self.apart, self.together)


def fused(module: tvm.IRModule, target: tvm.target.Target) -> Fused:
    """Every operator becomes a loop nest, and neighbours fuse: what schedules are for.

    Constants are not folded here: what is worth storing was folded in the graph, and a mask that a kernel can make
    should not be stored.
    """
    nests = tvm.transform.Sequential(
        [
            relax.transform.DeadCodeElimination(),
            relax.backend.DispatchSortScan(),
            legalize_ops(),
            relax.transform.AnnotateTIROpPattern(),
        ]
    )
    merge = tvm.transform.Sequential([relax.transform.FuseTIR(), relax.transform.DeadCodeElimination()])
    with target, tvm.transform.PassContext(opt_level=3):
        apart = nests(module)
        together = relax.transform.FuseOps()(apart)
        return Fused(apart, together, merge(together))


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

"""From Relax to scheduled kernels: the TVM passes that penstock uses, in order.

TVM's own pipeline for Adreno is never used: it has no rule for matmul and gives every output of a convolution a
work-group of its own. The rules for any GPU, with the limits of the target, do better everywhere.
"""

from __future__ import annotations

import tvm
from tvm import relax

from penstock.backends.tvm.schedules.rules import rules_for


def schedule(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Every operator becomes a loop nest, neighbours fuse, and every loop nest gets a schedule.

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
    module = fused(module, target)
    with target, tvm.transform.PassContext(opt_level=3):
        return passes(module)


def fused(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """Every operator becomes a loop nest, and neighbours fuse: what schedules are for.

    Constants are not folded here: what is worth storing was folded in the graph, and a mask that a kernel can make
    should not be stored.
    """
    passes = tvm.transform.Sequential(
        [
            relax.transform.DeadCodeElimination(),
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
        ]
    )
    with target, tvm.transform.PassContext(opt_level=3):
        return passes(module)

"""From Relax to scheduled kernels and memory-planned functions: the TVM passes that penstock uses, in order.

TVM's own pipeline for Adreno is never used: it has no rule for matmul and gives every output of a convolution a
work-group of its own. The rules for any GPU, with the limits of the target, do better everywhere.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from penstock.backends.tvm.schedule import rules_for


def relax_pipeline(target: tvm.target.Target) -> Any:
    """The pipeline for a target, as `relax.build` takes it."""
    passes = tvm.transform.Sequential(
        [
            # Phase 1: every operator becomes a loop nest, neighbours fuse. Constants are not folded here: what is worth
            # storing was folded in the graph, and a mask that a kernel can make should not lie in the library.
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
            # Phase 2: every loop nest gets a schedule.
            rules_for(target),
            # Phase 3: results get memory, which is shared once they are dead.
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
            relax.transform.CallTIRRewrite(),
            relax.transform.StaticPlanBlockMemory(),
            relax.transform.LowerAllocTensor(),
            relax.transform.KillAfterLastUse(),
            relax.transform.LowerRuntimeBuiltin(),
            relax.transform.ComputePrimValue(),
            relax.transform.VMShapeLower(),
            relax.transform.AttachGlobalSymbol(),
        ]
    )

    @tvm.transform.module_pass(opt_level=0, name="penstock")  # type: ignore[untyped-decorator]
    def pipeline(module: tvm.IRModule, _context: Any) -> tvm.IRModule:
        with target:
            return passes(module)

    return pipeline

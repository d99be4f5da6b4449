"""What TVM makes of an operator by itself: its importer, its pipeline for GPUs and its schedules.

Only the way to the device is penstock's: the kernels are launched by the native runner, like ours.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any
from unittest import mock

import torch
import tvm
from torch.fx import GraphModule
from tvm import relax, tirx
from tvm.relax.backend import gpu_generic
from tvm.relax.frontend.torch import from_exported_program

from penstock.backends.targets import Target
from penstock.backends.tvm import intrinsics
from penstock.backends.tvm.build import CompiledProgram
from penstock.backends.tvm.kernels import gpu_kernels
from penstock.backends.tvm.launches import launch_lists
from penstock.backends.tvm.target import tvm_target
from penstock.passes.core.program import Program, placeholders
from penstock.passes.core.shapes import value_of

_log = logging.getLogger(__name__)


def compile_with_tvm(program: Program, target: Target) -> CompiledProgram | None:
    """Compile a Program of one graph, which has to be straight-line; None where TVM fails at it."""
    ((name, graph),) = program.graphs.items()
    try:
        return _compiled(name, graph, target)
    except Exception as error:  # whatever TVM raises: its users get no kernel
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        _log.warning("TVM does not take %s: %s", [str(node.target) for node in graph.graph.nodes][-2], reason[0])
        return None


def _compiled(name: str, graph: GraphModule, target: Target) -> CompiledProgram:
    examples = tuple(torch.zeros_like(value_of(node), device="cpu") for node in placeholders(graph))
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, of how the importer copies programs
        module = from_exported_program(torch.export.export(graph, examples))
    module = tvm.IRModule({name: module["main"].with_attr("global_symbol", name)})
    built_for = tvm_target(target)
    with built_for, tvm.transform.PassContext(opt_level=3), mock.patch(f"{intrinsics.__name__}._erf", _erf):
        passes = [
            *gpu_generic.library_dispatch_passes(built_for),
            *gpu_generic.legalize_passes(built_for),
            relax.transform.RewriteDataflowReshape(),
            relax.transform.ToNonDataflow(),
            relax.transform.RemovePurityChecking(),
        ]
        table, bodies = launch_lists(tvm.transform.Sequential(passes)(module), {name: ()})
        return CompiledProgram(gpu_kernels(table.nests, target, built_for), bodies, table.constants, None)


def _erf(call: Any) -> Any:
    """OpenCL's own function, as TVM writes it."""
    return tirx.call_pure_extern(call.ty, "erf", *call.args)

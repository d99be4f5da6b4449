"""Single kernels, run by the simulator without a compiler around them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from penstock.backends.plan.launches import Body, Extent, Kernel, Launch, Storage, Type, Value
from penstock.backends.simulator import Simulation
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import CompiledProgram
from penstock.backends.tvm.standalone import write_compiled
from penstock.passes.core.program import Call, Phase, Plan, Signature, TensorSpec
from penstock.passes.core.shapes import dtype_name

DEVICES = {"metal": "apple-a18-pro", "opencl": "adreno-830"}


def simulate(
    language: str,
    source: str,
    inputs: Sequence[torch.Tensor],
    outputs: Sequence[torch.Tensor],
    grid: Extent = (1, 1, 1),
    block: Extent = (32, 1, 1),
    local_bytes: int = 0,
) -> tuple[torch.Tensor, ...]:
    """Run one kernel called ``wanted`` on some inputs; it takes them, then the outputs.

    Args:
        outputs: tensors of the shapes and dtypes that it writes.
    """
    buffers = (*inputs, *outputs)
    types = tuple(Type(dtype_name(tensor.dtype), tuple(tensor.shape)) for tensor in buffers)
    writes = tuple(range(len(inputs), len(buffers)))
    kernel = Kernel("wanted", "wanted", source, language, types, writes, (), grid, block, local_bytes)
    body = Body(
        types,
        len(inputs),
        tuple(Storage("parameter", kind.bytes, index) for index, kind in enumerate(types)),
        tuple(Value(f"v{index}", kind, index) for index, kind in enumerate(types)),
        (Launch(0, tuple(range(len(buffers)))),),
    )
    specs = [TensorSpec(f"v{index}", tuple(item.shape), item.dtype) for index, item in enumerate(buffers)]
    names = tuple(spec.name for spec in specs)
    call = Call("main", names[: len(inputs)], names[len(inputs) :])
    signature = Signature(tuple(specs[: len(inputs)]), tuple(specs[len(inputs) :]), {"tuple": []}, {"tuple": []})
    device = find_target(DEVICES[language])
    compiled = CompiledProgram((kernel,), {"main": body}, {}, None)
    with tempfile.TemporaryDirectory(prefix="penstock-") as name:
        write_compiled(compiled, Plan((Phase("main", ((call,),)),)), signature, {}, device, Path(name))
        return Simulation(Path(name), device, signature.inputs, signature.outputs).run(inputs)


def metal(body: str, *buffers: str) -> str:
    """A Metal kernel over buffers like ``float* x``, with ``block`` and ``thread_index`` along x."""
    listed = ", ".join(f"device {buffer} [[ buffer({index}) ]]" for index, buffer in enumerate(buffers))
    return (
        f"#include <metal_stdlib>\nusing namespace metal;\nkernel void wanted({listed},\n"
        f"  uint blockIdx [[threadgroup_position_in_grid]],\n  uint threadIdx [[thread_position_in_threadgroup]]) {{\n"
        f"{body}\n}}\n"
    )


def opencl(body: str, *buffers: str) -> str:
    """An OpenCL kernel over buffers like ``float* x``."""
    listed = ", ".join(f"__global {buffer.replace('*', '* restrict')}" for buffer in buffers)
    return f"__kernel void wanted({listed});\n__kernel void wanted({listed}) {{\n{body}\n}}\n"

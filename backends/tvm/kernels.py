"""Kernels taken out of a build: one self-contained source each, with its arguments and launch dimensions.

TVM's built module keeps one text for all kernels and no launch numbers. So the device functions are caught as they
leave TVM's last pass, where the thread extents still stand in the code, and each is generated on its own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.instrument import pass_instrument

from penstock.backends.targets import Target

_LANGUAGES = {"opencl": "opencl", "metal": "metal", "cuda": "cuda", "llvm": "tir"}
_SUFFIXES = {"opencl": ".cl", "metal": ".metal", "cuda": ".cu", "tir": ".tir.py"}
_DEVICE_KERNEL = 2
_LONGEST_NAME = 100
Extent = tuple[int, int, int]


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: a buffer of `dtype`, or a number."""

    name: str
    dtype: str
    is_buffer: bool


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        source: compiles on its own; the entry point is `name`.
        language: ``opencl``, ``metal`` or ``cuda``; ``tir`` for the functions of a CPU library, which are shown as
            TVM's scheduled loop nests.
        grid: work-groups along x, y, z.
        block: threads of a work-group along x, y, z.
        local_memory_bytes: what a work-group shares.
    """

    name: str
    source: str
    language: str
    arguments: tuple[Argument, ...]
    grid: Extent
    block: Extent
    local_memory_bytes: int

    @property
    def file_name(self) -> str:
        """Where an artifact keeps the source, below ``kernels/``. A fused kernel's name may be too long for a file."""
        name = self.name
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return name + _SUFFIXES[self.language]


@pass_instrument
class Catch:
    """Keeps the device functions (for a CPU, the scheduled functions) of the build it watches."""

    def __init__(self, target: Target) -> None:
        self.on_gpu = target.on_gpu
        self.functions: dict[str, Any] = {}

    def run_after_pass(self, module: tvm.IRModule, info: Any) -> None:
        """Look at what each pass leaves; later passes overwrite earlier ones."""
        if self.on_gpu:
            functions = {gv.name_hint: function for gv, function in module.functions.items()}
            if functions and all(_is_kernel(function) for function in functions.values()):
                self.functions.update(functions)
        elif str(info.name) == "penstock":
            self.functions = {
                gv.name_hint: function
                for gv, function in module.functions.items()
                if isinstance(function, tirx.PrimFunc)
            }


def _is_kernel(function: Any) -> bool:
    return isinstance(function, tirx.PrimFunc) and int((function.attrs or {}).get("calling_conv", 0)) == _DEVICE_KERNEL


def extract(functions: dict[str, Any], target: Target, built_for: tvm.target.Target) -> tuple[Kernel, ...]:
    """The kernels of caught functions, sorted by name."""
    return tuple(_kernel(name, functions[name], target, built_for) for name in sorted(functions))


def _kernel(name: str, function: Any, target: Target, built_for: tvm.target.Target) -> Kernel:
    extents = thread_extents(function.body)
    return Kernel(
        name=name,
        source=_source(name, function, target, built_for),
        language=_LANGUAGES[target.kind],
        arguments=tuple(_argument(parameter) for parameter in function.params),
        grid=_extent(extents, "blockIdx"),
        block=_extent(extents, "threadIdx"),
        local_memory_bytes=_shared_bytes(function.body),
    )


def _source(name: str, function: Any, target: Target, built_for: tvm.target.Target) -> str:
    if not target.on_gpu:
        return f"# {name}\n{function.script(show_meta=False)}\n"
    generate = tvm.get_global_func(f"target.build.{target.kind}")
    module = generate(tvm.IRModule({name: function}), built_for)
    return str(module.inspect_source("")).strip() + "\n"


def _argument(parameter: Any) -> Argument:
    kind = parameter.ty
    if isinstance(kind, tvm.ir.PointerType):
        return Argument(str(parameter.name), str(kind.element_type.dtype), True)
    return Argument(str(parameter.name), str(kind.dtype), isinstance(kind, tirx.buffer.BufferType))


def thread_extents(body: Any) -> dict[str, int]:
    """The extent of every thread axis (``blockIdx.x``, ``threadIdx.y``, …) that code is bound to."""
    extents: dict[str, int] = {}

    def loop(node: Any) -> None:
        if node.thread_binding is not None:
            extents[str(node.thread_binding.thread_tag)] = int(node.extent)

    def attribute(node: Any) -> None:
        if node.attr_key == "thread_extent":
            extents[str(node.node.thread_tag)] = int(node.value)

    tvm_ffi.structural_walk(body, [(tirx.For, loop), (tirx.AttrStmt, attribute)])
    return extents


def _extent(extents: dict[str, int], kind: str) -> Extent:
    return (extents.get(f"{kind}.x", 1), extents.get(f"{kind}.y", 1), extents.get(f"{kind}.z", 1))


def _shared_bytes(body: Any) -> int:
    total = 0

    def allocation(node: Any) -> None:
        nonlocal total
        buffer = node.buffer
        if str(buffer.scope()).startswith("shared"):
            total += math.prod(int(extent) for extent in buffer.shape) * _itemsize(str(buffer.dtype))

    tvm_ffi.structural_walk(body, (tirx.AllocBuffer, allocation))
    return total


def _itemsize(dtype: str) -> int:
    return int(tvm_ffi.dtype(dtype).itemsize)

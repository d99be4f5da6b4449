"""Kernels out of loop nests: for a GPU one self-contained source each, for a CPU functions of one library.

TVM's built module keeps one text for all GPU kernels and no launch numbers. So its passes run here up to the device
functions, in which the thread extents still stand in the code, and each is generated on its own. The code that would
launch them from TVM is never generated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.tirx.build import split_host_device_mods

from penstock.backends.cores import in_parts
from penstock.backends.plan.launches import Extent, Kernel, Type
from penstock.backends.targets import Target
from penstock.backends.tvm.intrinsics import spell_constants, spell_masks
from penstock.backends.tvm.nests import Nest
from penstock.backends.tvm.objects import object_files
from penstock.backends.tvm.pocl import inlined
from penstock.backends.tvm.work import work_of
from penstock.passes.core.errors import PenstockError

_PACKED = "__tvm_ffi_"
"""How TVM prefixes the functions of a CPU library."""


class BuildError(PenstockError):
    """TVM could not generate code for a Program that it should take; a fault of penstock."""


def cpu_kernels(nests: Mapping[str, Nest], built_for: tvm.target.Target) -> tuple[tuple[Kernel, ...], dict[str, bytes]]:
    """The kernels, and the object files that hold them."""
    kernels = tuple(
        _described(name, nest, _PACKED + name, f"# {name}\n{nest.function.script(show_meta=False)}\n", "tir")
        for name, nest in nests.items()
    )
    return kernels, object_files(_functions(nests), built_for)


def gpu_kernels(nests: Mapping[str, Nest], target: Target, built_for: tvm.target.Target) -> tuple[Kernel, ...]:
    """The kernels with their sources and launch numbers."""
    made = in_parts(
        list(_functions(nests).items()), lambda part: _device_functions(tvm.IRModule(dict(part)), built_for)
    )
    on_device = {name: function for part in made for name, function in part.items()}
    return tuple(_gpu_kernel(name, nest, on_device, target, built_for) for name, nest in nests.items())


def _device_functions(module: tvm.IRModule, built_for: tvm.target.Target) -> dict[str, Any]:
    """What runs on the device, by name, after all of TVM's passes."""
    lowering, _, finishing = tvm.tirx.get_default_tir_pipeline(built_for)
    with tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        module = lowering(tvm.tirx.transform.BindTarget(built_for.with_host(tvm.target.Target("llvm")))(module))
        _, on_devices = split_host_device_mods(module)
        finished = [finishing()(each) for each in on_devices.values()]
    return {gv.name_hint: function for each in finished for gv, function in each.functions.items()}


def _functions(nests: Mapping[str, Nest]) -> dict[str, Any]:
    return {name: nest.function.with_attr("global_symbol", name) for name, nest in nests.items()}


def _described(name: str, nest: Nest, entry: str, source: str, language: str, **numbers: Any) -> Kernel:
    arguments = tuple(Type(buffer.dtype, buffer.shape) for buffer in nest.buffers)
    return Kernel(name, entry, source, language, arguments, nest.writes, nest.in_place, **numbers)


def _gpu_kernel(
    name: str, nest: Nest, functions: Mapping[str, Any], target: Target, built_for: tvm.target.Target
) -> Kernel:
    entry = f"{name}_kernel"
    function = functions.get(entry)
    if function is None or f"{name}_kernel_1" in functions:
        raise BuildError(f"TVM made no single kernel of '{name}' for {target.name}")
    function = _with_every_parameter(function, nest)
    extents = thread_extents(function.body)
    generate = tvm.get_global_func(f"target.build.{target.kind}")
    function = spell_constants(spell_masks(function) if target.kind == "opencl" else function)
    source = str(generate(tvm.IRModule({entry: function}), built_for).inspect_source("")).strip() + "\n"
    return _described(
        name,
        nest,
        entry,
        source if target.kind != "opencl" or target.compute.barriers else inlined(source),
        target.kind,
        grid=_extent(extents, "blockIdx"),
        block=_extent(extents, "threadIdx"),
        local_memory_bytes=_shared_bytes(function.body),
        work=work_of(function, extents, target.limits.subgroup),
    )


def _with_every_parameter(function: Any, nest: Nest) -> Any:
    """A device function that takes every buffer of its nest.

    TVM drops those that it finds unread, as a factor of zero leaves them; a launch passes them all, in order.
    """
    known = {str(param.name): param for param in function.params}
    params = []
    for index, buffer in enumerate(nest.buffers):
        name = f"a{index:02}_ptr"  # as `nests` names them
        pointer = tvm.ir.PointerType(tvm.ir.PrimType(buffer.dtype), "global")
        params.append(known.pop(name) if name in known else tirx.Var(name, pointer))
    if known:
        raise BuildError(f"TVM's kernel takes {', '.join(known)}, which its loop nest does not touch")
    if len(params) == len(function.params):
        return function
    return tirx.PrimFunc(params, function.body, function.ret_type, attrs=function.attrs)


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
            total += math.prod(int(extent) for extent in buffer.shape) * int(tvm_ffi.dtype(str(buffer.dtype)).itemsize)

    tvm_ffi.structural_walk(body, (tirx.AllocBuffer, allocation))
    return total

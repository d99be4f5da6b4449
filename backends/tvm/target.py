"""A penstock target as TVM sees it."""

from __future__ import annotations

import tvm

from penstock.backends.targets import Target


def tvm_target(target: Target) -> tvm.target.Target:
    """The TVM target, with the code generator of its host."""
    host = {"kind": "llvm", "mtriple": target.host} if target.host else {"kind": "llvm"}
    if target.kind == "llvm":
        return tvm.target.Target(host if target.host else {**host, "mcpu": native_cpu()})
    options: dict[str, str | int] = {
        "kind": target.kind,
        "device": target.name,
        "max_threads_per_block": target.limits.max_threads,
        "max_shared_memory_per_block": target.limits.local_memory_bytes,
        "thread_warp_size": target.limits.subgroup,
    }
    if target.kind == "cuda":
        options["arch"] = "sm_80"
    if target.kind == "opencl":
        # TVM takes a subgroup size as leave to shuffle between threads, which OpenCL 1.2 has no word for.
        del options["thread_warp_size"]
    return tvm.target.Target(options, host=host)


def native_cpu() -> str:
    """What LLVM calls the CPU of the machine at hand, e.g. ``znver4``: the instruction set to compile for."""
    return str(tvm.get_global_func("target.llvm_get_system_cpu")())

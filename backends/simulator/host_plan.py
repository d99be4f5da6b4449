"""The launch plan of a GPU as one for this machine's CPU: the same memory and launches, kernels from a library."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.backends.digest import sign
from penstock.backends.plan.encoding import PLAN, seal
from penstock.backends.simulator.translate import KernelSource

LIBRARY = "simulated.so"


def read_plan(folder: Path) -> dict[str, Any]:
    """The launch plan of an artifact's folder, whose files have been checked."""
    data: dict[str, Any] = json.loads((folder / PLAN).read_bytes())
    return data


def sources(plan: Mapping[str, Any], folder: Path) -> list[KernelSource]:
    """The kernels of a plan."""
    return [
        KernelSource(
            name=kernel["name"],
            entry=kernel["entry"],
            language=plan["kind"],
            source=(folder / kernel["file"]).read_text(encoding="utf-8"),
            grid=tuple(kernel["grid"]),
            block=tuple(kernel["block"]),
            local_bytes=kernel["local_bytes"],
            buffers=len(kernel["arguments"]),
            writes=tuple(kernel["writes"]),
        )
        for kernel in plan["kernels"]
    ]


def for_the_cpu(plan: Mapping[str, Any], symbols: Sequence[str], library_digest: str) -> bytes:
    """The text of the plan with its kernels in the library.

    Args:
        symbols: for each kernel, the function of the library that launches it.
        library_digest: the library's SHA-256.
    """
    host = copy.deepcopy(dict(plan))
    del host["digest"]
    host["kind"] = "llvm"
    host["library"] = {"file": LIBRARY, "sha256": library_digest}
    for kernel, symbol in zip(host["kernels"], symbols, strict=True):
        kernel.update(file=None, sha256=None, entry=symbol)
        kernel["seal"] = seal(kernel, library_digest)
    return sign(json.dumps(host, indent=1).removesuffix("\n}"))


def launched(plan: Mapping[str, Any]) -> list[int]:
    """For each kernel, how often one run of the plan launches it."""
    times = [0] * len(plan["kernels"])
    for phase in plan["phases"]:
        for step in phase["steps"]:
            for call in step:
                for kernel, count in _launches(plan["graphs"][call["call"]]["ops"], 1):
                    times[kernel] += count
    return times


def threads(plan: Mapping[str, Any]) -> int:
    """How many threads one run of the plan starts."""
    sizes = [math.prod(kernel["grid"]) * math.prod(kernel["block"]) for kernel in plan["kernels"]]
    return sum(size * times for size, times in zip(sizes, launched(plan), strict=True))


def _launches(ops: Sequence[Mapping[str, Any]], times: int) -> Iterator[tuple[int, int]]:
    for op in ops:
        if "launch" in op:
            yield op["launch"], times
        elif "loop" in op:
            yield from _launches(op["ops"], times * op["loop"])

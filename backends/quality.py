"""Whether a GPU kernel is one that an expert would not be ashamed of: written criteria, checked on what it does.

The criteria and their reasons are in docs/kernels.md. They are about how a kernel uses a device, not about how long it
takes: what is checked is the work counted in its code (`Work`), its launch, and what the device likes (`Compute`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock.backends.plan.launches import Body, Kernel, Launch, Loop, Op
from penstock.backends.targets import Target
from penstock.passes.core.shapes import dtype_named

FULL_WAVES = 0.75
"""Of the lanes of a work-group's waves, those that have a thread."""
RESULTS_PER_THREAD = 8
"""A result with no more elements than this per thread that the device can run at once is too small to fill it."""
LEAST_LOADS = 4
"""Elements that each thread of a work-group loads for a single result."""
REUSE = 1.5
"""Operations per element that a thread loads, of a contraction; a thread that reuses nothing has one."""
CONTRACTION = 16.0
"""Operations per element of the least traffic, from which reuse matters; norms and activations have ten or so."""
DISORDERLY = 0.1
"""Of the bytes that threads touch."""


@dataclass(frozen=True)
class Share:
    """How much of a Program's arithmetic is in kernels that pass.

    Attributes:
        flops: of a run.
        passing: of these, in kernels that pass.
        failures: the kernels that do not, with what is wrong and their operations.
    """

    flops: int
    passing: int
    failures: tuple[tuple[str, tuple[str, ...], int], ...]

    @property
    def fraction(self) -> float:
        """Of the operations, those in kernels that pass; 1 where there are none."""
        return self.passing / self.flops if self.flops else 1.0


def faults(kernel: Kernel, target: Target) -> tuple[str, ...]:
    """What is wrong with a kernel on a device; nothing if it passes."""
    limits, compute, work = target.limits, target.compute, kernel.work
    groups, threads = math.prod(kernel.grid), math.prod(kernel.block)
    results = sum(math.prod(kernel.arguments[index].shape) for index in kernel.writes)
    waves = -(-threads // limits.subgroup) * limits.subgroup
    able = compute.compute_units * compute.threads
    found = []
    if threads > limits.max_threads:
        found.append(f"{threads} threads in a work-group, the device has {limits.max_threads}")
    if threads < FULL_WAVES * waves and groups * waves > able:
        found.append(f"{threads} threads leave idle lanes in waves of {limits.subgroup}")
    if 2 * kernel.local_memory_bytes > limits.local_memory_bytes:
        found.append(f"{kernel.local_memory_bytes} bytes of local memory leave no room for a second work-group")
    if groups < compute.compute_units and results > RESULTS_PER_THREAD * able:
        found.append(f"{groups} work-groups for {compute.compute_units} compute units and {results} results")
    if threads > 1 and 2 * groups > results and work.loads < LEAST_LOADS * groups * threads and results > able:
        found.append("a work-group per result that has little to do")
    itemsize = dtype_named(kernel.arguments[kernel.writes[0]].dtype).itemsize
    contracts = work.flops >= CONTRACTION * work.moved_bytes / itemsize
    if contracts and work.flops < REUSE * work.loads and groups * threads > able:
        found.append(f"{work.flops / max(1, work.loads):.2f} operations per element loaded")
    if work.disorderly_bytes > DISORDERLY * work.touched_bytes:
        share = work.disorderly_bytes / work.touched_bytes
        found.append(f"{share:.0%} of the bytes are touched neither in vectors nor side by side")
    return tuple(found)


def share_of(kernels: Iterable[Kernel], launches: Mapping[int, int], target: Target) -> Share:
    """How much of the arithmetic is in kernels that pass.

    Args:
        launches: how often a run launches each kernel, by index.
    """
    flops = passing = 0
    failures = []
    for index, kernel in enumerate(kernels):
        here = kernel.work.flops * launches.get(index, 0)
        wrong = faults(kernel, target)
        flops += here
        passing += 0 if wrong else here
        if wrong:
            failures.append((kernel.name, wrong, here))
    return Share(flops, passing, tuple(sorted(failures, key=lambda row: -row[2])))


def launch_counts(bodies: Mapping[str, Body], runs: Mapping[str, int]) -> dict[int, int]:
    """How often a run launches each kernel, by index.

    Args:
        runs: how often the plan calls each graph.
    """
    counts: dict[int, int] = {}

    def walk(ops: Iterable[Op], times: int) -> None:
        for op in ops:
            if isinstance(op, Loop):
                walk(op.ops, times * op.count)
            elif isinstance(op, Launch):
                counts[op.kernel] = counts.get(op.kernel, 0) + times

    for name, body in bodies.items():
        walk(body.ops, runs.get(name, 0))
    return counts

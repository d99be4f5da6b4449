"""What schedules know of the GPU that they write for: the penstock target behind a TVM target."""

from __future__ import annotations

from typing import Any

from penstock.backends.targets import Target, find_target


def device_of(target: Any) -> Target:
    """The penstock target that a TVM target was made from; the generic OpenCL device for one that was not."""
    return find_target(str(target.attrs.get("device", "opencl")))


def most_lanes(device: Target, itemsize: int) -> int:
    """Elements that a thread of a device loads at once: a power of two. Metal has vectors of four at most."""
    return min(device.compute.vector_bytes // itemsize, 4 if device.kind in ("metal", "cuda") else 8)


def vector_lanes(device: Target, itemsize: int, extent: int) -> int:
    """Elements that a thread loads at once: what the device likes, halved until it divides the extent."""
    lanes = most_lanes(device, itemsize)
    while extent % lanes:
        lanes //= 2
    return lanes


def threads_for(device: Target, items: int, waves: int = 1, elements: int = 1) -> int:
    """Threads of a work-group for so many items: what the device likes, halved while that leaves most of them idle.

    Args:
        waves: how many times what the device likes, within its limit; for kernels that need few registers.
        elements: of an item. Few items of many elements are spread over all compute units.
    """
    threads = min(waves * device.compute.threads, device.limits.max_threads)
    while threads > 1 and threads >= 2 * items:
        threads //= 2
    units = device.compute.compute_units
    least = device.limits.subgroup if device.limits.subgroup > 1 else 32
    while threads > least and units * device.compute.threads <= items * elements and items < threads * units:
        threads //= 2
    return threads

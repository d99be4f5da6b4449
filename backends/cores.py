"""How much of this machine a process may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_TOGETHER = 16
"""Items of one part. No function of the cores, so that what is made is the same wherever it is made."""


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs() -> int:
    """How many compilations run at once: PENSTOCK_THREADS, else the cores of the process."""
    return int(os.environ.get("PENSTOCK_THREADS") or 0) or cores()


def in_parts(items: Sequence[Item], work: Callable[[Sequence[Item]], Made]) -> list[Made]:
    """What some work makes of parts of a sequence, in order; of an empty one, once.

    The parts are made at once, on every core, as far as the work does not hold Python's lock.
    """
    parts = [items[start : start + _TOGETHER] for start in range(0, len(items) or 1, _TOGETHER)]
    with ThreadPoolExecutor(jobs()) as pool:
        return list(pool.map(work, parts))

"""How much of this machine a process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs() -> int:
    """How many compilations run at once: PENSTOCK_THREADS, else the cores of the process."""
    return int(os.environ.get("PENSTOCK_THREADS") or 0) or cores()

"""Tuning a Program's kernels: which device measures, and what is searched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from penstock.backends.targets import Target
from penstock.backends.tvm.tuning.database import Database
from penstock.backends.tvm.tuning.measure import LocalBench
from penstock.backends.tvm.tuning.remote import RemoteBench, connected
from penstock.backends.tvm.tuning.tuner import Outcome, questions, tune
from penstock.compilation import legalized
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program


def tune_program(
    program: Program,
    target: Target,
    database: Path,
    seconds: float,
    rpc: str | None,
    key: str | None,
    progress: Callable[[str, int, int], None],
) -> Outcome:
    """Search, with the device of this machine or the one behind an address. See `penstock.tune`."""
    if rpc is None and not (target.runs_here or target.name == "opencl"):
        raise UsageError(
            f"target '{target.name}' is not this machine; name a device that runs TVM's RPC server with --rpc HOST:PORT"
        )
    known = Database(database)
    progress("finding kernels", 0, int(seconds))
    asked = questions(legalized(program, target), target)
    with ExitStack() as stack:
        if rpc is None:
            return tune(asked, known, seconds, partial(LocalBench, target=target), target.name, progress)
        session = stack.enter_context(connected(rpc, key))
        bench = partial(RemoteBench, target=target, session=session)
        return tune(asked, known, seconds, bench, f"{target.name} at {rpc}", progress)

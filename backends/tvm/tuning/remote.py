"""Timing one kernel on another host: a phone, or any machine that runs TVM's RPC server.

The kernel goes there as a shared library for the target, linked here; the numbers come back. Apart from the server,
which is TVM's, nothing has to be on the device.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tvm
from tvm import rpc
from tvm.support import cc

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.rules import rules_for
from penstock.backends.tvm.schedules.tunable import Choice, Question, deciding
from penstock.backends.tvm.target import tvm_target
from penstock.backends.tvm.tuning.measure import ROUNDS, SECONDS, Measured, One, border, filled
from penstock.passes.core.errors import MissingToolError, UsageError

_KERNEL = "kernel"
_DEVICES = {"llvm": "cpu", "opencl": "opencl", "metal": "metal", "cuda": "cuda"}


@contextmanager
def connected(address: str, key: str | None) -> Iterator[Any]:
    """A session with an RPC server, or, with a key, with a device of that key behind a tracker.

    Args:
        address: ``HOST:PORT``.

    Raises:
        UsageError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"'{address}' is no address; write HOST:PORT, as in 192.168.1.7:9090")
    try:
        session = rpc.connect_tracker(host, int(port)).request(key) if key else rpc.connect(host, int(port))
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"no RPC server answers at {address}: {reason}; start one there with `python -m tvm.exec.rpc_server`"
        ) from error
    yield session


class RemoteBench:
    """One kernel on the device of a session, with the rule's own choice loaded to compare with.

    Args:
        question: the kernel.
        target: what the device is.
        session: of TVM's RPC.
    """

    def __init__(self, question: Question, target: Target, session: Any) -> None:
        self._question, self._target, self._session = question, target, session
        self._device = session.device(_DEVICES[target.kind], 0)
        inputs, outputs = border(question.function)
        tensors = [*map(filled, inputs), *map(filled, outputs)]
        self._tensors = [tvm.runtime.tensor(np.asarray(tensor), self._device) for tensor in tensors]
        self._own = self._loaded(question.choices[0])
        self.seconds = median(self._seconds(self._own) for _ in range(ROUNDS))

    def measure(self, choice: Choice) -> Measured:
        """Time a choice and the rule's own in turns."""
        mine = self._loaded(choice)
        times = [(self._seconds(mine), self._seconds(self._own)) for _ in range(ROUNDS)]
        return Measured(median(time for time, _ in times), median(time / own for time, own in times))

    def _loaded(self, choice: Choice) -> Any:
        """A timer of the kernel with a choice, on the device."""
        built_for = tvm_target(self._target)
        named = self._question.function.with_attr("global_symbol", _KERNEL)
        with built_for, deciding(One(self._question.key, choice)):
            module = rules_for(built_for)(tvm.IRModule({_KERNEL: named}))
            built = tvm.tirx.build(module, target=built_for)
        with tempfile.TemporaryDirectory(prefix="penstock-tune-") as folder:
            # The server keeps what it has loaded under a name, so every choice has one of its own.
            name = (
                "_".join(["penstock", self._question.key, *(f"{key}{value}" for key, value in choice.items())]) + ".so"
            )
            built.export_library(str(Path(folder) / name), fcompile=_linker(self._target))
            self._session.upload(str(Path(folder) / name))
        library = self._session.load_module(name)
        return library.time_evaluator(_KERNEL, self._device, number=1, repeat=1, min_repeat_ms=int(1000 * SECONDS))

    def _seconds(self, timer: Any) -> float:
        return float(timer(*self._tensors).mean)


def _linker(target: Target) -> Any:
    """How a shared library for the target is linked here."""
    if not target.host:
        return None
    if "android" in target.host:
        return cc.cross_compiler(_tool("clang"), [f"--target={target.host}", "-fuse-ld=lld", "-nostdlib", "-shared"])
    return cc.cross_compiler(_tool(f"{target.host}-g++"))


def _tool(name: str) -> str:
    return shutil.which(name) or _missing(name)


def _missing(name: str) -> str:
    raise MissingToolError(f"no {name} on the PATH to link kernels for the device with")

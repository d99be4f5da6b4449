"""Trying artifacts in a process of their own, which may crash or hang."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from tests.backends.runtime.native_builds import driver, environment
from tests.backends.runtime.plans import Json, elements
from tests.fuzz.valid_plans import compute

PATIENCE = {"llvm": 10.0, "opencl": 60.0}  # seconds; a driver compiles kernels first
RUNS = 2
THREADS = 2
MANY_LAUNCHES = 50_000  # of one run: they may take longer than the patience lasts


@dataclass(frozen=True)
class Answer:
    """What came of an artifact.

    Attributes:
        code: of the load or the run that failed, or 0; None where the process crashed or hung.
        hash: of the outputs.
        message: the reason, or what the process printed before it ended.
        timed_out: whether it hung.
    """

    code: int | None
    hash: int
    message: str
    timed_out: bool = False


class Trial:
    """A driver process that is started again when it ends.

    Attributes:
        cases: how many artifacts the present process has seen.
    """

    def __init__(self, runner: Path, sanitize: str, kind: str = "llvm") -> None:
        self.patience = PATIENCE[kind]
        self.command = [str(driver(sanitize)), str(runner), str(THREADS), str(RUNS)]
        self.environment = environment(sanitize)
        self._start()

    def _start(self) -> None:
        self.cases = 0
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - until the process ends; a full pipe would stop it
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=self.environment,
            bufsize=0,
        )
        self.selector = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, artifact: Path) -> Answer:
        """Load and run an artifact."""
        assert self.process.stdin is not None
        self.cases += 1
        self.process.stdin.write(os.fsencode(artifact) + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            if not self.selector.select(self.patience):
                self._end(kill=True)
                return Answer(None, 0, f"no answer within {self.patience:.0f} s", timed_out=True)
            part = self._read()
            if not part:
                return Answer(None, 0, self._end(kill=False))
            line += part
        code, digest, message = line.decode("utf-8", "replace").rstrip("\n").split("\t", 2)
        return Answer(int(code), int(digest, 16), message)

    def _read(self) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 65536)

    def restart(self) -> str:
        """End the process as it ends by itself. What it printed if it did not end well, e.g. of leaks."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._end(kill=False)

    def _end(self, kill: bool) -> str:
        if kill:
            self.process.kill()
        status = self.process.wait()
        self._close()
        self.errors.seek(0)
        text = self.errors.read().decode("utf-8", "replace")
        self.errors.close()
        self._start()
        return "" if status == 0 else f"the process ended with {status}: {text[-20_000:]}"

    def _close(self) -> None:
        self.selector.close()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._close()
        self.errors.close()


def expected_hash(artifact: Path) -> int:
    """The hash that the driver prints for a whole artifact's outputs."""
    plan = json.loads((artifact / "plan.json").read_bytes())
    content = (artifact / "weights.safetensors").read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    weights, start = [], 0
    for tensor in plan["weights"]["tensors"]:
        weights.append(np.frombuffer(data, np.int32, elements(tensor["type"]), start))
        start += weights[-1].nbytes
    inputs = []
    for number, index in enumerate(plan["inputs"]):
        at = np.arange(4 * elements(plan["values"][index]["type"]))
        inputs.append(((at * 31 + number * 7) % 251).astype(np.uint8).tobytes())
    result = 14695981039346656037
    for byte in b"".join(compute(plan, weights, inputs)):
        result = (result ^ byte) * 1099511628211 % 2**64
    return result


def is_long(artifact: Path) -> bool:
    """Whether an artifact that took too long asks for so many launches that it may."""
    try:
        plan = json.loads((artifact / "plan.json").read_bytes())
        calls = [call["call"] for phase in plan["phases"] for step in phase["steps"] for call in step]
        return sum(_launches(plan["graphs"][name]["ops"]) for name in calls) > MANY_LAUNCHES
    except (ValueError, KeyError, TypeError):
        return False


def _launches(ops: list[Json]) -> int:
    return sum(op["loop"] * max(1, _launches(op["ops"])) if "loop" in op else 1 for op in ops)

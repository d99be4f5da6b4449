"""A process that holds one contender and nothing else, and does what its parent asks, one line at a time.

``run`` answers the seconds of one run, ``peak`` the peak memory in bytes, ``output FILE`` writes the first output.
As it loads one runtime only, its peak memory is that of this runtime. While it waits it uses no processor time, apart
from a moment after a run in which a runtime's threads look for more work: the parent lets that moment pass, or they
would take a core from the next worker. A run that is timed follows one that is not, which wakes the threads.
"""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

KIB = 1024
FAILED = "failed:"
REST = 0.05  # seconds; ONNX Runtime's threads spin for several milliseconds after a run


class ContenderError(RuntimeError):
    """A contender does not run this model; the message says why."""


class Worker:
    """The parent's side: a contender of `harness.alternate`.

    Args:
        name: how to call it in tables.
        function: ``module:function``; called with `folder`, it prepares the contender and returns what runs it.
        folder: the prepared model.
        threads: how many threads the contender may use.

    Raises:
        ContenderError: the contender does not take the model.
    """

    def __init__(self, name: str, function: str, folder: Path, threads: int) -> None:
        self.name = name
        limits = dict.fromkeys(("OMP_NUM_THREADS", "PENSTOCK_THREADS"), str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", function, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **limits},
            cwd=Path(__file__).parents[1],
        )
        self.prepare_seconds = float(self._answer())

    def run(self) -> float:
        """Run once; the seconds it took."""
        time.sleep(REST)
        return float(self._ask("run"))

    def output(self, path: Path) -> None:
        """Write the first output of a run as a ``.npy`` file."""
        self._ask(f"output {path}")

    def peak_bytes(self) -> int:
        """The most memory that the process held since it warmed up; where the system cannot tell, since it began."""
        return int(self._ask("peak"))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def _ask(self, request: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ContenderError(f"the contender '{self.name}' died with exit code {self._process.wait()}; see above")
        if line.startswith(FAILED):
            self._process.communicate()
            raise ContenderError(line.removeprefix(FAILED).strip())
        return line.strip()


def serve(function: str, folder: Path) -> None:
    """The worker's side."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what runtimes print goes to the terminal, not among the answers
    module, _, attribute = function.partition(":")
    began = time.perf_counter()
    try:
        run = getattr(importlib.import_module(module), attribute)(folder)
        run()
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        print(f"{FAILED} {type(error).__name__}: {reason[0]}", file=answers)
        return
    print(time.perf_counter() - began, file=answers)
    _forget_peak()
    for request in sys.stdin:
        verb, _, argument = request.strip().partition(" ")
        if verb == "run":
            run()
            began = time.perf_counter()
            run()
            print(time.perf_counter() - began, file=answers)
        elif verb == "output":
            import numpy as np

            np.save(argument, run())
            print("written", file=answers)
        elif verb == "peak":
            print(_peak_bytes(), file=answers)


def _forget_peak() -> None:
    """Start the high-water mark anew, so that it shows the memory of running, not that of loading or compiling."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5", encoding="utf-8")


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        marks = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:")]
        return int(marks[0].split()[1]) * KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))

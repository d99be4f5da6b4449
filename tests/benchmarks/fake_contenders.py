"""Contenders that the tests of `benchmarks.worker` run in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Run = Callable[[], np.ndarray]


def slow(folder: Path) -> Run:
    def run() -> np.ndarray:
        time.sleep(0.01)
        return np.array([1.0, 2.0])

    return run


def noisy(folder: Path) -> Run:
    def run() -> np.ndarray:
        os.write(1, b"what a library prints\n")
        return np.zeros(1)

    return run


def hungry(folder: Path) -> Run:
    count = int((folder / "bytes").read_text())
    return lambda: np.ones(count, dtype=np.uint8)[:1]


def threads(folder: Path) -> Run:
    return lambda: np.array([int(os.environ[name]) for name in ("OMP_NUM_THREADS", "PENSTOCK_THREADS")])


def broken(folder: Path) -> Run:
    raise SystemExit(1)


def refusing(folder: Path) -> Run:
    raise ValueError("no operator Foo\nin line 3")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness import alternate
from benchmarks.worker import ContenderError, Worker

MIB = 2**20
HERE = "tests.benchmarks.fake_contenders"


def test_a_worker_is_a_contender(tmp_path: Path) -> None:
    with Worker("slow", f"{HERE}:slow", tmp_path, 1) as slow, Worker("noisy", f"{HERE}:noisy", tmp_path, 1) as noisy:
        timings = alternate([slow, noisy], rounds=3, warm_up=1)
        slow.output(tmp_path / "out.npy")
    assert [timing.name for timing in timings] == ["slow", "noisy"]
    assert timings[0].median >= 0.01
    assert slow.prepare_seconds >= 0.01
    assert np.load(tmp_path / "out.npy").tolist() == [1.0, 2.0]


def test_peak_memory_is_that_of_running_alone(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_text(str(64 * MIB))
    with Worker("small", f"{HERE}:slow", tmp_path, 1) as small, Worker("large", f"{HERE}:hungry", tmp_path, 1) as large:
        alternate([small, large], rounds=1)
        assert 56 * MIB < large.peak_bytes() - small.peak_bytes() < 80 * MIB


def test_a_worker_has_the_threads_it_is_given(tmp_path: Path) -> None:
    with Worker("threads", f"{HERE}:threads", tmp_path, 3) as worker:
        worker.output(tmp_path / "out.npy")
    assert np.load(tmp_path / "out.npy").tolist() == [3, 3]


def test_a_worker_that_dies_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContenderError, match="the contender 'broken' died with exit code 1"):
        Worker("broken", f"{HERE}:broken", tmp_path, 1)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import models
from benchmarks.contenders import CONTENDERS
from benchmarks.harness import Timing
from benchmarks.limit import Limit, measure_limit
from benchmarks.models import Row, describe, measure, standing
from benchmarks.worker import ContenderError


def test_ratios_are_against_the_first() -> None:
    rows = [
        Row(Timing("penstock llvm", (0.002, 0.002)), error=1e-6, prepare_seconds=1.25, peak_bytes=2**20),
        Row(Timing("torch eager", (0.006, 0.006)), error=0.0, prepare_seconds=0.5, peak_bytes=3 * 2**20),
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in describe(rows, 0.001).splitlines()]
    assert lines[2] == ["penstock llvm", "2.00", "±0%", "1.00", "50.0%", "1", "1.2", "1.0e-06"]
    assert lines[3] == ["torch eager", "6.00", "±0%", "3.00", "16.7%", "3", "0.5", "0.0e+00"]


def test_the_limit_is_the_slower_of_arithmetic_and_memory() -> None:
    limit = Limit(flops_per_second=1e9, bytes_per_second=1e6)
    assert limit.least_seconds(flops=10**9, moved_bytes=1) == 1
    assert limit.least_seconds(flops=1, moved_bytes=10**7) == 10
    assert str(limit) == "Limit: 1 GFLOP/s (matrix product), 0.0 GB/s (copy)."


def test_limits_are_measured() -> None:
    limit = measure_limit(threads=1, size=64, copied_bytes=2**16)
    assert limit.flops_per_second > 0
    assert limit.bytes_per_second > 0


def test_the_fastest_of_the_others_counts() -> None:
    rows = [
        Row(Timing(name, (seconds,)), error=0.0, prepare_seconds=1.0, peak_bytes=1)
        for name, seconds in [("penstock llvm", 0.003), ("torch eager", 0.006), ("onnxruntime", 0.002)]
    ]
    assert standing(rows).startswith("penstock llvm takes 1.50 of the time of onnxruntime")


def test_a_contender_that_does_not_take_the_model_says_so_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "expected.npy", np.array([1.0, 2.0]))
    for name, function in {"slow": "slow", "refuses": "refusing"}.items():
        monkeypatch.setitem(CONTENDERS, name, f"tests.benchmarks.fake_contenders:{function}")
    rows, failures = measure(["slow", "refuses"], tmp_path, rounds=1, threads=1)
    assert [row.timing.name for row in rows] == ["slow"]
    cells = [cell.strip() for cell in describe(rows, 0.001, failures).splitlines()[-1].split("|")[1:-1]]
    assert cells == ["refuses", *["–"] * 6, "ValueError: no operator Foo"]
    with pytest.raises(ContenderError, match="no operator Foo"):
        measure(["refuses", "slow"], tmp_path, rounds=1, threads=1)


@pytest.mark.models
def test_a_quick_run_against_eager(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--contender", "penstock llvm", "--contender", "torch eager", "--contender", "onnxruntime"]
    models.main(["--quick", "--threads", "1", "--results", str(tmp_path), *wanted])
    data = json.loads((tmp_path / "models.json").read_text())
    contenders = data["models"]["vit"]["contenders"]
    assert list(contenders) == ["penstock llvm", "torch eager", "onnxruntime"]
    for row in contenders.values():
        assert len(row["seconds"]) == 3
        assert row["max_error"] < 1e-4
    assert contenders["penstock llvm"]["ratio"] == 1
    assert "### vit" in capsys.readouterr().out

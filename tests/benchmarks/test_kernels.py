from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from benchmarks import kernels
from benchmarks.harness import Timing
from benchmarks.models import Row


def test_a_line_per_operator() -> None:
    rows = [
        Row(Timing("penstock llvm", (0.002,)), error=1e-6, prepare_seconds=1.0, peak_bytes=1),
        Row(Timing("onnxruntime", (0.004,)), error=0.0, prepare_seconds=1.0, peak_bytes=1),
    ]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in kernels.describe({"conv": (0.001, rows)}).splitlines()
    ]
    assert lines[0] == ["operator", "penstock llvm us", "of the limit", "over onnxruntime", "max error"]
    assert lines[2] == ["conv", "2000", "50%", "0.50", "1.0e-06"]


def test_every_tensor_is_moved_once() -> None:
    layer = nn.Linear(3, 5)
    assert kernels.moved_bytes(kernels._layer(layer, 2, 3)) == 4 * (6 + 15 + 5 + 10)


@pytest.mark.models
def test_a_quick_run(tmp_path: Path) -> None:
    wanted = ["--contender", "penstock llvm", "--contender", "torch eager"]
    kernels.main(["--quick", "--threads", "1", "--results", str(tmp_path), *wanted])
    data = json.loads((tmp_path / "kernels.json").read_text())
    for kernel in data["kernels"].values():
        assert kernel["contenders"]["penstock llvm"]["max_error"] < 1e-4

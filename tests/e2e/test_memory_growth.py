"""What the plan says about memory is what the process takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import penstock

pytestmark = pytest.mark.native
MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
from tests.backends.runtime.capi import Model

def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, large = sys.argv[1:]
image = np.ones((1, 3, 256, 256), np.float32)
Model(Path(small)).run(np.ones((1, 3, 8, 8), np.float32))  # the code is in memory
Path("/proc/self/clear_refs").write_text("5")  # forget the highest use so far
before = kilobytes("VmRSS")
Model(Path(large)).run(image)
print(1024 * (kilobytes("VmHWM") - before))
"""


class Encoder(nn.Module):
    """Large activations, then large weights."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.early = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()
        )
        self.late = nn.Linear(64 * (size // 8) ** 2, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.late(nn.functional.avg_pool2d(self.early(x), 8).flatten(1))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures through Linux's /proc")
def test_a_run_takes_the_arena_and_the_weights_and_no_more(tmp_path: Path) -> None:
    for size in (8, 256):
        module = Encoder(size).eval()
        program = penstock.optimize(penstock.capture(module, (torch.rand(1, 3, size, size),)), target="llvm")
        artifact = penstock.compile(program, "llvm", tmp_path / f"{size}.penstock", cache=False)
    memory = penstock.load(artifact.path).runner.memory
    planned = memory.arena_bytes + memory.weight_bytes
    assert planned > 90e6  # so that a few pages of code do not count
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "8.penstock", artifact.path],
        capture_output=True,
        check=True,
        text=True,
    )
    assert int(measured.stdout) == pytest.approx(planned, rel=0.05)

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import graph_passes
from benchmarks.graph_passes import describe
from benchmarks.synthetic import SHAPES
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference


@pytest.mark.parametrize("shape", SHAPES)
def test_synthetic_models_have_the_size_asked_for_and_run(shape: str) -> None:
    program = SHAPES[shape](200)
    assert abs(program.node_count - 200) < 20
    (output,) = reference.run(program, [torch.randn(1, 8, 4, 4)])
    assert output.isfinite().all()


def test_a_unet_holds_its_way_down() -> None:
    chain, unet = (memory(SHAPES[shape](700)) for shape in ("chain", "unet"))
    assert unet.activation_bytes > 3 * chain.activation_bytes


def test_the_slowest_stands_first_and_the_idle_below() -> None:
    text = describe({"fast": {10: 0.001, 100: 0.01}, "slow": {10: 0.01, 100: 1.0}, "idle": {10: 1e-5, 100: 1e-5}})
    lines = text.splitlines()
    assert lines[2].split("|")[1:-1] == [" slow ", "         10.0 ", "        1000.0 ", "     2.00 "]
    assert lines[3].startswith("| fast ")
    assert lines[-1] == "Under 1 ms, with nothing to do: idle"


def test_a_quick_run_measures_all_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph_passes.main(["--quick", "--results", str(tmp_path)])
    seconds = json.loads((tmp_path / "graph_passes.json").read_text())["seconds"]
    assert set(seconds) == set(SHAPES)
    for rows in seconds.values():
        assert {"memory", "cost", "dialect check", "listing", "pass dead-code"} <= set(rows)
    assert "| memory" in capsys.readouterr().out

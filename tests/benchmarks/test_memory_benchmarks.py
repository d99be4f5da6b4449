from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

import penstock
from benchmarks import full_native, full_size, sliced_memory, todays_memory
from penstock.passes.analysis.memory import memory


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures through Linux's /proc")
@pytest.mark.native
def test_planned_bytes_are_what_runs_take(tmp_path: Path) -> None:
    layers = nn.Sequential(nn.Linear(4, 256), nn.GELU(), nn.Linear(256, 4))
    program = penstock.optimize(penstock.capture(layers, (torch.rand(32768, 4),)), target="llvm")
    planned = memory(program).activation_bytes
    assert planned > 50e6
    for target, name in ((program, "large"), (penstock.capture(nn.ReLU(), (torch.rand(1, 4),)), "small")):
        penstock.compile(target, "llvm", tmp_path / name, cache=False)
    growth = sliced_memory.process_growth(tmp_path / "large", tmp_path / "small")
    arena = penstock.load(tmp_path / "large").runner.memory.arena_bytes
    assert growth == pytest.approx(arena, rel=0.05)
    values, peak = sliced_memory.torch_peak(program)
    assert values == pytest.approx(planned, rel=0.05)
    assert peak >= values


def test_workspaces_of_torch_are_no_values() -> None:
    program = penstock.capture(nn.Conv3d(32, 32, (3, 1, 1), padding=(1, 0, 0)), (torch.rand(1, 32, 4, 64, 64),))
    values, peak = sliced_memory.torch_peak(program)
    assert values == pytest.approx(memory(program).activation_bytes, rel=0.05)
    assert peak > 1.5 * values


def test_a_model_is_planned_without_weights_and_measured_with_them() -> None:
    def build() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        return nn.Sequential(nn.Linear(4, 256), nn.GELU(), nn.Linear(256, 4)), (torch.rand(4096, 4),)

    programs = full_size.planned(build, "fused", 0.25)
    assert all(program.is_fake for program in programs)
    row = full_size.measure("layers", "fused", *full_size.with_data(programs, build, torch.device("cpu")), rounds=2)
    assert row.whole.values == pytest.approx(row.whole.planned, rel=0.05)
    assert row.sliced.values == pytest.approx(row.sliced.planned, rel=0.05)
    assert row.sliced.asked < 0.3 * row.whole.asked
    assert (row.bits, row.finite, row.replay_ratio) == (32, True, None)
    assert row.max_error < 1e-5
    assert "| layers |" in full_size.described([row])


@pytest.mark.models
@pytest.mark.native
def test_a_model_is_compiled_without_weights_and_run_with_them(tmp_path: Path) -> None:
    full_native.compile_model("unet2d", "opencl", tmp_path)
    row = full_native.measure(tmp_path, rounds=1)
    (whole, sliced), (arena, sliced_arena) = row.planned_bytes, row.arena_bytes
    assert sliced <= 0.5 * whole
    assert arena <= 1.05 * whole
    assert sliced_arena <= 1.05 * sliced
    assert row.max_error < 1e-5
    assert "| unet2d |" in full_native.described([asdict(row)])


@pytest.mark.models
def test_what_is_done_today_changes_results_or_not() -> None:
    errors = {
        (small, method): todays_memory.error_of(small, at_small)
        for _, small, method, _, at_small in todays_memory.METHODS
    }
    assert errors["svd_vae_decoder", "decode_chunk_size=1"] > 0.01
    assert errors["ltx_vae_decoder", "enable_tiling, framewise"] > 0.01
    assert errors["svd_unet", "enable_forward_chunking"] == 0
    assert 0 < errors["animatediff_unet", "enable_attention_slicing"] < 1e-5

"""Every example runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import penstock

pytestmark = pytest.mark.models

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    """What an example prints; it must end well."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_write_a_pass() -> None:
    printed = run("write_a_pass.py")
    assert "before: 13 linear layers" in printed
    assert "after: 9 linear layers" in printed  # query, key and value of both layers are one
    assert "linear_linear = linear(layer_norm, merged.linear.weight, merged.linear.bias)" in printed
    assert "merge-linears: 'linear_3'" in printed
    assert "only 1 layer(s) like it read its input" in printed


def test_inspect_memory() -> None:
    printed = run("inspect_memory.py", f"{EXAMPLES / 'zoo.py'}:unet2d")
    assert "activations, attention scores stored" in printed
    assert "Alive at the peak" in printed
    assert "The highest modules" in printed
    assert "conv2d" in printed


def test_compile_video_unet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))
    printed = run("compile_video_unet.py", "--output", str(tmp_path / "out"), "--target", "llvm")
    artifact = tmp_path / "out" / "svd-unet-llvm.penstock"
    assert (artifact / "report.html").is_file()
    assert "captured 1544 operators" in printed
    assert f"open {artifact / 'report.html'}" in printed
    assert "verified" in printed
    assert all(difference.ok for difference in penstock.verify(artifact))

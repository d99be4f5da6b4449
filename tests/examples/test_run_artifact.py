"""The C example, built against the installed library, gives the bytes that Python gets."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import penstock
from penstock.backends.native import native_library

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.native, pytest.mark.tool]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = native_library()
    compiler = os.environ.get("CC") or shutil.which("cc")
    assert library is not None, "the native library is not built"
    assert compiler, "no C compiler"
    built = tmp_path_factory.mktemp("c") / "run_artifact"
    include = ROOT / "backends" / "runtime" / "include"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{include}", f"-Wl,-rpath,{Path(library._name).parent}"]
    subprocess.run([compiler, *flags, ROOT / "examples" / "run_artifact.c", library._name, "-o", built], check=True)
    return built


def numbers(shape: tuple[int, ...]) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return (torch.arange(count) % 16 / 16).reshape(shape)


def checksum(tensor: torch.Tensor) -> str:
    value = 14695981039346656037
    for byte in tensor.contiguous().numpy().tobytes():
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}"


def test_its_checksums_are_those_of_python(program: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1))
    captured = penstock.capture(module, (torch.randn(1, 3, 8, 8),))
    path = tmp_path / "net.penstock"
    penstock.compile(captured, "llvm", path, cache=False)
    (output,) = penstock.load(path).run([numbers((1, 3, 8, 8))])
    done = subprocess.run([program, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"output float32 1024 bytes {checksum(output)}\n"
    assert torch.allclose(output, module(numbers((1, 3, 8, 8))), atol=1e-5)


def test_it_says_what_is_wrong(program: Path, tmp_path: Path) -> None:
    done = subprocess.run([program, tmp_path / "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is no folder that can be read" in done.stderr


def test_it_is_short() -> None:
    assert len((ROOT / "examples" / "run_artifact.c").read_text().splitlines()) < 60

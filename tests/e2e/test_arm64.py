"""The runner and its kernels for 64-bit Arm, under an emulator: the numbers are those of eager."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import penstock
from examples.zoo import ZOO

ROOT = Path(__file__).parents[2]
TOOLS = ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.models,
    pytest.mark.tool,
    pytest.mark.skipif(bool(MISSING), reason=f"not here: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner for arm64 Linux as ``cmake --install`` leaves it."""
    folder = tmp_path_factory.mktemp("arm64")
    toolchain = ROOT / "backends" / "runtime" / "toolchains" / "linux-arm64.cmake"
    options = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DCMAKE_BUILD_TYPE=Release", "-DPENSTOCK_TOOLS=ON"]
    for command in (
        ["cmake", "-S", ROOT, "-B", folder / "build", *options],
        ["cmake", "--build", folder / "build", "--parallel", "2"],
        ["cmake", "--install", folder / "build", "--prefix", folder / "out"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return folder / "out"


def test_what_is_installed(installed: Path) -> None:
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    wanted = {"lib/libpenstock_runtime.so", "lib/libpenstock_runtime.a", "bin/penstock-run"}
    assert found == wanted | {"include/penstock/runtime.h"}


def test_the_library_is_small(installed: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.so"
    subprocess.run(
        ["aarch64-linux-gnu-strip", "-o", stripped, installed / "lib" / "libpenstock_runtime.so"], check=True
    )
    assert stripped.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ZOO)
def test_numbers_are_those_of_eager(name: str, installed: Path, tmp_path: Path) -> None:
    program = penstock.optimize(penstock.capture(*ZOO[name]()))
    penstock.compile(program, "linux-arm64-cpu", tmp_path / "net.penstock", cache=False)
    command = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", installed / "bin" / "penstock-run"]
    done = subprocess.run([*command, tmp_path / "net.penstock"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "max error" in done.stdout

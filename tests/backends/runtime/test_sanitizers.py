"""The runner under sanitizers: no report on anything that the other tests do, and a report where there must be one."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.backends.runtime import capi
from tests.backends.runtime.capi import KINDS
from tests.backends.runtime.native_builds import driver, environment, library
from tests.backends.runtime.plans import edit, put, write_weights
from tests.backends.runtime.samples import doubling, rows

pytestmark = [pytest.mark.tool, pytest.mark.native]
ADDRESS, THREAD = "address,undefined", "thread"


def drive(paths: Sequence[Path], sanitize: str, runs: int = 3) -> tuple[list[int], str]:
    """Load, run and free artifacts in one process. The codes, and what was printed besides."""
    command = [driver(sanitize), library(sanitize), "4", str(runs)]
    done = subprocess.run(
        command, input="".join(f"{path}\n" for path in paths), capture_output=True, text=True, env=environment(sanitize)
    )
    assert done.returncode == 0 or done.stderr
    return [int(line.split("\t")[0]) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_used_and_given_back_properly(kind: str, tmp_path: Path) -> None:
    fill = "address" if kind == "llvm" else ""
    good = [rows(tmp_path / "rows", kind, fill), doubling(tmp_path / "doubling", kind, 3, sanitize=fill)]
    bad = [rows(tmp_path / str(index), kind, fill) for index in range(6)]
    (bad[0] / "plan.json").write_bytes(b"{" * 100)
    write_weights(bad[1], b"\x02\0\0\0\0\0\0\0[]")
    (bad[2] / "weights.safetensors").unlink()
    edit(bad[3], put("graphs", "main", "ops", 0, "loop", to=5))
    edit(bad[4], put("weights", "tensors", 0, "stored", to="absent"))
    code = next(path for path in bad[5].glob("*/*") if path.is_file())
    code.write_bytes(code.read_bytes()[:-1])
    codes, reports = drive([*good, *bad, *good, tmp_path / "absent"], ADDRESS)
    assert codes == [capi.OK] * 2 + [capi.BAD_ARTIFACT] * 6 + [capi.OK] * 2 + [capi.BAD_ARTIFACT]
    assert reports == ""


def test_failing_kernels_leave_nothing_behind(tmp_path: Path) -> None:
    paths = [
        doubling(tmp_path / name, "llvm", 1, name, "address") for name in ("fail", "fail_in_thread", "parallel_twice")
    ]
    assert drive([*paths, *paths], ADDRESS) == ([capi.FAILED, capi.FAILED, capi.OK] * 2, "")


def test_threads_do_not_race(tmp_path: Path) -> None:
    many = doubling(tmp_path / "many", "llvm", 200, "parallel_twice", "thread")
    failing = doubling(tmp_path / "failing", "llvm", 1, "fail_in_thread", "thread")
    assert drive([many, failing, many], THREAD, runs=20) == ([capi.OK, capi.FAILED, capi.OK], "")


@pytest.mark.parametrize(
    ("kernel", "sanitize", "report"),
    [("overrun", ADDRESS, "heap-buffer-overflow"), ("race", THREAD, "data race")],
)
def test_what_a_sanitizer_looks_for_is_found(kernel: str, sanitize: str, report: str, tmp_path: Path) -> None:
    path = doubling(tmp_path, "llvm", 1, kernel, sanitize.partition(",")[0])
    _, reports = drive([path], sanitize)
    assert report in reports

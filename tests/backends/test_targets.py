from __future__ import annotations

import subprocess
import sys

import pytest

from penstock.backends.targets import all_targets, find_target
from penstock.passes.core.errors import UsageError


def test_every_promised_family_is_there() -> None:
    names = set(all_targets())
    assert {"llvm", "cuda", "apple-a15", "apple-a18-pro", "apple-a19", "apple-m1", "apple-m4"} <= names
    assert {"adreno-6xx", "adreno-7xx", "adreno-830", "mali-g71", "mali-g78"} <= names


@pytest.mark.parametrize("target", all_targets().values(), ids=lambda target: target.name)
def test_entries_are_complete(target) -> None:  # type: ignore[no-untyped-def]
    assert target.description.endswith(".")
    assert target.limits.max_threads >= 1
    if target.on_gpu:
        assert target.sources, "a GPU's limits need a source"
        assert target.limits.local_memory_bytes >= 16384
        assert target.kind in ("cuda", "opencl") or target.host


def test_only_the_native_cpu_runs_here() -> None:
    assert [target.name for target in all_targets().values() if target.runs_here] == ["llvm"]


def test_aliases_and_near_misses() -> None:
    assert find_target("adreno").family == "adreno"
    assert find_target("cpu").name == "llvm"
    with pytest.raises(UsageError, match=r"unknown target 'adreno830'; did you mean adreno-830"):
        find_target("adreno830")


def test_names_and_aliases_are_unique() -> None:
    taken = [name for target in all_targets().values() for name in (target.name, *target.aliases)]
    assert len(taken) == len(set(taken))


def test_listing_targets_loads_neither_torch_nor_tvm() -> None:
    code = (
        "import sys, penstock.backends.targets as targets; targets.all_targets(); "
        "sys.exit('torch' in sys.modules or 'tvm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

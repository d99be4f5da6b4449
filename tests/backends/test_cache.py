from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from penstock.backends.artifact import Description, open_artifact, write_artifact
from penstock.backends.artifact.manifest import HostRecord, MemoryRecord, SignatureRecord
from penstock.backends.cache import Cache, cache_folder, cache_key
from penstock.backends.targets import find_target
from penstock.frontends.torch_export import capture_module
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program

KEY, OTHER = "0" * 64, "1" * 64


class Net(torch.nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * 2


@pytest.fixture(scope="module")
def program() -> Program:
    return capture_module(Net(), (torch.ones(2, 4),))


@pytest.fixture
def make(program: Program) -> Callable[[Path], None]:
    """Write a small artifact, as a compilation would."""
    description = Description(
        model="Net",
        target=find_target("adreno-830"),
        host=HostRecord(),
        plan=program.plan,
        signature=SignatureRecord.of(program.signature),
        passes=(),
        losses={},
        memory=MemoryRecord(weight_bytes=0, activation_bytes=0, arena_bytes=0, lower_bound_bytes=0),
        kernels=(),
        functions={"main": ()},
        library=None,
        tools={},
    )
    return lambda path: write_artifact(path, description, {"lib/model.so": bytes(100_000)}, {}, {}, lambda *_: b"{}")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse(path: Path) -> None:
    raise AssertionError(f"{path} was made again")


def test_a_hit_is_identical_and_counted(make: Callable[[Path], None], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.fetch(KEY, tmp_path / "first", make)
    assert (cache.hits, cache.misses) == (0, 1)
    cache.fetch(KEY, tmp_path / "second", refuse)
    assert (cache.hits, cache.misses) == (1, 1)
    assert content(tmp_path / "first") == content(tmp_path / "second")
    with pytest.raises(AssertionError, match="made again"):
        cache.fetch(OTHER, tmp_path / "third", refuse)
    assert not (tmp_path / "third").exists()


def test_what_a_user_edits_does_not_reach_the_cache(make: Callable[[Path], None], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.fetch(KEY, tmp_path / "first", make)
    (tmp_path / "first" / "lib/model.so").write_bytes(b"edited")
    cache.fetch(KEY, tmp_path / "second", refuse)
    assert open_artifact(tmp_path / "second").manifest.model == "Net"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_a_damaged_entry_is_made_again(make: Callable[[Path], None], tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path / "cache")
    cache.fetch(KEY, tmp_path / "first", make)
    library = tmp_path / "cache" / f"{KEY}.penstock" / "lib/model.so"
    if damage == "flip":
        library.write_bytes(b"\x01" + library.read_bytes()[1:])
    elif damage == "truncate":
        os.truncate(library, 10)
    elif damage == "remove":
        library.unlink()
    else:
        (library.parents[1] / "manifest.json").write_text("{")
    cache.fetch(KEY, tmp_path / "second", make)
    assert (cache.hits, cache.misses) == (0, 2)
    assert content(tmp_path / "first") == content(tmp_path / "second")


def test_a_bad_destination_does_not_cost_the_entry(make: Callable[[Path], None], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.fetch(KEY, tmp_path / "first", make)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="mine exists and is not a penstock artifact"):
        cache.fetch(KEY, tmp_path / "mine", refuse)
    cache.fetch(KEY, tmp_path / "second", refuse)


def test_a_failed_compilation_leaves_no_entry(make: Callable[[Path], None], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with pytest.raises(AssertionError):
        cache.fetch(KEY, tmp_path / "first", refuse)
    assert list((tmp_path / "cache").glob("*.penstock")) == []
    cache.fetch(KEY, tmp_path / "first", make)


def test_two_at_once_compile_once(make: Callable[[Path], None], tmp_path: Path) -> None:
    made: list[Path] = []

    def slowly(path: Path) -> None:
        made.append(path)
        time.sleep(0.2)
        make(path)

    def fetch(name: str) -> None:
        Cache(tmp_path / "cache").fetch(KEY, tmp_path / name, slowly)

    threads = [threading.Thread(target=fetch, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "three")


def test_the_entry_unused_for_longest_goes(make: Callable[[Path], None], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", limit_bytes=250_000)
    keys = ["a" * 64, "b" * 64, "c" * 64]
    for age, key in enumerate(keys[:2]):
        cache.fetch(key, tmp_path / "out", make)
        os.utime(tmp_path / "cache" / f"{key}.penstock", (age, age))
    cache.fetch(keys[0], tmp_path / "out", refuse)  # used again: now the second is the oldest
    cache.fetch(keys[2], tmp_path / "out", make)
    assert sorted(path.stem for path in (tmp_path / "cache").glob("*.penstock")) == [keys[0], keys[2]]


def test_an_entry_larger_than_the_limit_is_delivered(make: Callable[[Path], None], tmp_path: Path) -> None:
    Cache(tmp_path / "cache", limit_bytes=1).fetch(KEY, tmp_path / "out", make)
    assert open_artifact(tmp_path / "out").manifest.model == "Net"


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    assert Cache().folder == tmp_path / "chosen"
    monkeypatch.delenv("PENSTOCK_CACHE")
    assert cache_folder().parts[-2:] == ("penstock", "artifacts")


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"the compile cache cannot use .*file: File exists; set PENSTOCK_CACHE"):
        Cache(tmp_path / "file")


def test_the_key_is_stable(program: Program) -> None:
    assert cache_key(program, {"target": "llvm"}) == cache_key(program, {"target": "llvm"})
    again = capture_module(Net(), (torch.ones(2, 4),))
    assert cache_key(program, {}) == cache_key(again, {})


def test_everything_that_shapes_an_artifact_changes_the_key(program: Program) -> None:
    keys = {cache_key(program, {})}
    keys.add(cache_key(program, {"target": "llvm"}))
    keys.add(cache_key(capture_module(Net(1), (torch.ones(2, 4),)), {}))  # other weights
    keys.add(cache_key(capture_module(Net(), (torch.zeros(2, 4),)), {}))  # other examples
    keys.add(cache_key(capture_module(Net(), (torch.ones(3, 4),)), {}))  # other shapes
    keys.add(cache_key(program.noted("half-precision"), {}))
    keys.add(cache_key(replace(program, signature=replace(program.signature, result={"list": [{"tensor": 0}]})), {}))
    assert len(keys) == 7


def test_other_tools_change_the_key(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key(program, {})
    monkeypatch.setattr("penstock.backends.cache.tool_versions", lambda: {"apache-tvm": "0.28"})
    with_other_tvm = cache_key(program, {})
    monkeypatch.setattr("penstock.backends.cache._own_source", lambda: "edited")
    assert len({before, with_other_tvm, cache_key(program, {})}) == 3

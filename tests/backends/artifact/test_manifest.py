from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from penstock.backends.artifact import Description, Manifest
from penstock.backends.artifact.manifest import SCHEMA_VERSION, FileRecord, LossRecord, parse_manifest
from penstock.backends.digest import sign
from penstock.passes.core.errors import UsageError


@pytest.fixture
def manifest(description: Description) -> Manifest:
    files = {"kernels/add.cl": FileRecord(sha256="0" * 64, size=0)}
    return Manifest(**dict(description), aliases={"b": "a"}, files=files)


@pytest.fixture
def parse(manifest: Manifest) -> Callable[[Callable[[Any], Any]], Manifest]:
    """`parse(edit)`: the manifest, edited as plain data and read again."""

    def parse(edit: Callable[[Any], Any]) -> Manifest:
        data = json.loads(manifest.to_json())
        del data["digest"]
        edit(data)
        return parse_manifest(sign(json.dumps(data)[:-1]), "manifest.json")

    return parse


def test_round_trip(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json(), "m") == manifest
    assert manifest.signature.signature().states == ("k",)


def test_a_loss_without_bound_is_still_json(manifest: Manifest) -> None:
    loss = LossRecord(output="output", max_error=float("inf"), mean_error=1.0, scale=1.0)
    endless = manifest.model_copy(update={"losses": {"half-precision": (loss,)}})
    assert b": Infinity" not in endless.to_json()
    assert parse_manifest(endless.to_json(), "m") == endless


def test_text_is_sorted_and_has_no_time_or_host_path(manifest: Manifest) -> None:
    data = json.loads(manifest.to_json())
    assert list(data) == [*sorted(set(data) - {"digest"}), "digest"]
    assert data["schema_version"] == SCHEMA_VERSION
    assert {"time", "date", "path"}.isdisjoint(data)


def test_newer_schema(parse: Any) -> None:
    with pytest.raises(UsageError) as caught:
        parse(lambda data: data.update(schema_version=SCHEMA_VERSION + 1, novelty=True))
    expected = f"manifest.json has schema version {SCHEMA_VERSION + 1}, this penstock reads up to {SCHEMA_VERSION}; "
    assert str(caught.value) == expected + "upgrade penstock"


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_impossible_schema_version(parse: Any, version: Any) -> None:
    with pytest.raises(UsageError, match=r"manifest.json is damaged: schema_version:"):
        parse(lambda data: data.update(schema_version=version))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": "penstock"'])
def test_not_json(content: bytes) -> None:
    with pytest.raises(UsageError, match="m is damaged: not JSON"):
        parse_manifest(content, "m")


@pytest.mark.parametrize("content", [b"[]", b"1", b"{}", b'{"format": "other"}'])
def test_other_json(content: bytes) -> None:
    with pytest.raises(UsageError, match="m is not the manifest of a penstock artifact"):
        parse_manifest(content, "m")


def drop(*path: str | int) -> Callable[[Any], None]:
    def edit(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return edit


def put(value: Any, *path: str | int) -> Callable[[Any], None]:
    def edit(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (drop("plan"), "plan: Field required"),
        (put(1, "extra"), "extra: Extra inputs are not permitted"),
        (put(1, "plan", "phases", 0, "extra"), "plan.phases.0.extra: Unexpected keyword argument"),
        (put("much", "memory", "weight_bytes"), "memory.weight_bytes: Input should be a valid integer"),
        (put("vulkan", "target", "kind"), "target.kind: Input should be 'llvm'"),
        (put("gone.cl", "kernels", 0, "file"), "'gone.cl' is not among the files"),
        (put("../../lib.so", "library"), "'../../lib.so' is not among the files"),
        (put("float12", "signature", "inputs", 0, "dtype"), "'x' has the impossible type float12 [2, 3]"),
        (put("nn", "signature", "inputs", 0, "dtype"), "'x' has the impossible type nn [2, 3]"),
        (put([-2], "signature", "outputs", 0, "shape"), "'output' has the impossible type float32 [-2]"),
        (put(["a", "b", "c"], "signature", "states"), "there are more states than inputs or outputs"),
        (put({"tensor": 1}, "signature", "result"), "the result hold the tensors [1], expected 1"),
        (put({"what": 0}, "signature", "result"), "the result have no legal structure"),
        (put({}, "signature", "arguments"), "the arguments have no legal structure"),
        (put({"tensor": 0}, "signature", "arguments"), "the arguments are not a tuple and a dict"),
        (put("other", "plan", "phases", 0, "steps", 0, 0, "graph"), "the plan calls 'other', which is no function"),
        (
            put(["z", "k"], "plan", "phases", 0, "steps", 0, 0, "args"),
            "the plan passes 'z' to 'main' before it is bound",
        ),
        (put([], "plan", "phases"), "the plan leaves the output 'output' unbound"),
    ],
)
def test_edited_manifest(parse: Any, edit: Callable[[Any], None], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(edit)
    assert f"manifest.json is damaged: {problem}" in str(caught.value)
    assert str(caught.value).endswith("; compile the model again")
    assert "\n" not in str(caught.value)

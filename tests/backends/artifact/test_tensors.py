from __future__ import annotations

from pathlib import Path

import pytest
import torch

from penstock.backends.artifact.tensors import read, store
from penstock.backends.artifact.weights import store_weights
from penstock.passes.core.errors import UsageError


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool]
)
def test_every_dtype_and_rank(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"scalar": torch.ones((), dtype=dtype), "empty": torch.ones(0, 3, dtype=dtype)}
    tensors["cube"] = torch.arange(24).reshape(2, 3, 4).to(dtype)
    store(tmp_path / "t", tensors)
    found = read(tmp_path / "t")
    assert all(found[name].dtype == dtype and torch.equal(found[name], tensors[name]) for name in tensors)


def test_views_of_one_storage_are_stored_in_full(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"whole": whole, "row": whole[1], "turned": whole.t(), "parameter": torch.nn.Parameter(whole[:2])}
    assert store_weights(tmp_path / "t", tensors) == {}
    found = read(tmp_path / "t")
    assert all(torch.equal(found[name], tensors[name].detach()) for name in tensors)


def test_a_result_that_is_an_argument_is_stored_under_both_names(tmp_path: Path) -> None:
    value = torch.arange(6.0)
    store(tmp_path / "t", {"input.x": value, "output.same": value, "output.flat": value.view(2, 3)})
    found = read(tmp_path / "t")
    assert torch.equal(found["output.same"], value)
    assert torch.equal(found["output.flat"], value.view(2, 3))


def test_equal_values_of_other_shape_or_dtype_are_distinct(tmp_path: Path) -> None:
    zeros = {"a": torch.zeros(4), "b": torch.zeros(2, 2), "c": torch.zeros(4, dtype=torch.int32), "d": torch.zeros(4)}
    assert store_weights(tmp_path / "t", zeros) == {"d": "a"}
    assert read(tmp_path / "t", {"d": "a"})["d"].shape == (4,)


def test_order_does_not_matter(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.float16), "c": torch.ones(1)}
    store(tmp_path / "one", tensors)
    store(tmp_path / "two", dict(reversed(tensors.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_truncated(tmp_path: Path) -> None:
    store(tmp_path / "t", {"a": torch.ones(100)})
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:200])
    with pytest.raises(UsageError, match=r"t is damaged"):
        read(tmp_path / "t")

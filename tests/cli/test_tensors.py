from __future__ import annotations

from pathlib import Path

import pytest
import torch

from penstock.cli.tensors import read_tensors, write_tensors
from penstock.passes.core.errors import UsageError

TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.float16),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "scalar": torch.tensor(3),
    "flags": torch.tensor([True, False]),
}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_tensors_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    write_tensors(path, TENSORS)
    back = read_tensors(path)
    assert set(back) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(torch.as_tensor(back[name]), tensor)


def test_bfloat16_needs_safetensors(tmp_path: Path) -> None:
    tensors = {"y": torch.ones(2, dtype=torch.bfloat16)}
    with pytest.raises(UsageError, match=r"'y' is bfloat16, which \.npz cannot hold; write a \.safetensors file"):
        write_tensors(tmp_path / "x.npz", tensors)
    write_tensors(tmp_path / "x.safetensors", tensors)
    assert torch.equal(read_tensors(tmp_path / "x.safetensors")["y"], tensors["y"])


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(UsageError, match=r"cannot write .*x\.npz: "):
        write_tensors(tmp_path / "x.npz", TENSORS)

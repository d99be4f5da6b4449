from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import penstock
from penstock.backends.tvm.layouts import Layout, dense
from penstock.passes.analysis.memory import memory


def test_a_layout_is_that_of_a_view() -> None:
    view = dense((2, 6, 12))[:, :, 4:8].view(2, 6, 2, 2).permute(0, 2, 1, 3)
    assert Layout.of(view) == Layout(size=144, offset=4, strides=(72, 2, 12, 1))


class Packed(nn.Module):
    """Self-attention whose queries, keys and values come from one linear layer: whole rows of heads, or torn ones."""

    def __init__(self, torn: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.torn = nn.Linear(32, 96), nn.Linear(32, 32), torn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self._heads(part) for part in self.qkv(x).split(32, -1))
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(1, 2).reshape(x.shape))

    def _heads(self, part: torch.Tensor) -> torch.Tensor:
        if self.torn:  # the elements of a head lie 4 apart
            return part.reshape(*part.shape[:2], 8, 4).permute(0, 3, 1, 2)
        return part.reshape(*part.shape[:2], 4, 8).transpose(1, 2)


class Unbound(nn.Module):
    """Self-attention as vision transformers write it: queries, keys and values are the parts of a permuted tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.qkv(x).reshape(*x.shape[:2], 3, 4, 8).permute(2, 0, 3, 1, 4).reshape(3, -1, x.shape[1], 8)
        q, k, v = (part.view(x.shape[0], 4, -1, 8) for part in heads.unbind(0))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


@pytest.mark.native
@pytest.mark.parametrize(
    ("model", "torn"),
    [(Packed(False), False), (Packed(True), True), (Unbound(), False)],
    ids=["split", "torn", "unbound"],
)
def test_attention_reads_views_where_they_lie(model: nn.Module, torn: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 64, 32)
    program = penstock.optimize(penstock.capture(model, (x,)), target="llvm")
    artifact = penstock.compile(program, "llvm", tmp_path / "model", cache=False)
    torch.testing.assert_close(penstock.load(artifact.path)(x), model(x), atol=1e-5, rtol=0)
    copies = artifact.manifest.memory.arena_bytes - memory(program).activation_bytes
    assert (copies > 0) == torn

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from penstock.backends.targets import find_target
from penstock.backends.tvm.schedules.gpu import attention
from tests.backends.tvm.schedules.gpu.kernels import assert_equals_eager, assert_no_faults, kernels_of

r = torch.randn


class Attend(torch.nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None):  # type: ignore[no-untyped-def]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)


CASES = {
    "self": (False, (r(1, 2, 16, 8), r(1, 2, 16, 8), r(1, 2, 16, 8))),
    "odd": (False, (r(2, 1, 7, 5), r(2, 1, 13, 5), r(2, 1, 13, 11))),
    "causal": (True, (r(1, 2, 40, 16), r(1, 2, 40, 16), r(1, 2, 40, 16))),
    "mask": (False, (r(1, 2, 10, 8), r(1, 2, 70, 8), r(1, 2, 70, 8), r(1, 1, 10, 70))),
    "short": (False, (r(24, 2, 3, 8), r(24, 2, 3, 8), r(24, 2, 3, 8))),
    "wide": (False, (r(1, 1, 9, 320), r(1, 1, 20, 320), r(1, 1, 20, 320))),
}


@pytest.mark.parametrize("barriers", [False, True], ids=["streaming", "tiled"])
@pytest.mark.parametrize("name", CASES)
def test_equals_eager(name: str, barriers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = find_target("opencl")
    device = dataclasses.replace(known, compute=dataclasses.replace(known.compute, barriers=barriers))
    monkeypatch.setattr(attention, "device_of", lambda _: device)
    causal, args = CASES[name]
    assert_equals_eager(Attend(causal), args, tmp_path)


def test_wide_heads_take_more_threads_and_not_more_registers() -> None:
    (narrow,) = kernels_of(Attend(False), (r(1, 1, 64, 64),) * 3, "apple-a18-pro")
    (wide,) = kernels_of(Attend(False), (r(1, 1, 64, 512),) * 3, "apple-a18-pro")
    assert wide.block[0] > narrow.block[0]


def test_passes_the_criteria() -> None:
    assert_no_faults(Attend(False), (r(1, 8, 256, 64),) * 3)


def test_short_sequences_share_work_groups() -> None:
    assert_no_faults(Attend(False), (r(1024, 4, 4, 16),) * 3)

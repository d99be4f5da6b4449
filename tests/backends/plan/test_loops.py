from __future__ import annotations

import pytest
import torch
from torch import nn

import penstock
from penstock.backends.plan.layout import lay_out
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import launches_of
from penstock.compilation import legalized
from penstock.passes.core.program import SliceLoop


class Repeated(nn.Module):
    """Convolutions over an image whose border is repeated around it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(8, 8, 3) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convolutions:
            x = nn.functional.silu(convolution(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")))
        return x.mean(1)


@pytest.mark.parametrize("name", ["llvm", "opencl"])
def test_what_is_kept_lies_beside_the_values_only_while_the_old_is_read(name: str) -> None:
    """Each kernel reads rows that were kept, and the new ones take their place at once, not at the end of the part."""
    program = penstock.capture(Repeated(), (torch.rand(1, 8, 64, 64),))
    sliced = penstock.optimize(program, memory_budget="min")
    (loop,) = (op for op in sliced.plan.ops() if isinstance(op, SliceLoop))
    assert loop.kept
    target, planned = find_target(name), penstock.memory(sliced).activation_bytes
    legal = legalized(sliced, target)
    launches = launches_of(legal, target, planned)
    nests = tuple(launches.table.nests.values())
    laid_out = lay_out(nests, launches.bodies, legal.plan, legal.signature, target.limits, planned)
    assert 0.95 * planned < laid_out.placement.bytes < 1.02 * planned

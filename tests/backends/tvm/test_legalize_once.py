from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import tvm
from torch import nn
from tvm import relax

import penstock
from penstock.backends.targets import find_target
from penstock.backends.tvm import legalize_once
from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.target import tvm_target
from penstock.compilation import legalized


class Repeated(nn.Module):
    """Operators alike, and some that differ in one thing: an attribute, a number, an extent, an operand used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.wide, self.stride = nn.Conv2d(4, 4, 3, padding=2), nn.Conv2d(4, 4, 3, padding=1, stride=2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.second(self.first(x) * 0.5) * 0.25
        z = F.silu(self.wide(x)) + F.silu(y.new_ones(1, 4, 10, 10))
        pairs = x + x, x + y, x.sum(2), x.sum(3), torch.cat([x, y], 1), torch.cat([y, y], 1), x[:, 1:3], y[:, :2]
        return y, z, self.stride(x), *pairs


def lowered(target: str) -> tuple[tvm.IRModule, Any]:
    program = legalized(penstock.capture(Repeated(), (torch.randn(1, 4, 8, 8),)), find_target(target))
    built_for = tvm_target(find_target(target))
    with built_for:
        return lower(program).module, built_for


@pytest.mark.parametrize("target", ["llvm", "opencl"])
def test_a_module_is_as_tvm_legalises_it(target: str) -> None:
    module, built_for = lowered(target)
    with built_for:
        tvm.ir.assert_structural_equal(legalize_once.legalize_ops()(module), relax.transform.LegalizeOps()(module))


def test_operators_that_are_alike_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    once = legalize_once._once

    def counting(function: Any, known: Any) -> Any:
        def count(builder: Any, call: Any) -> Any:
            written.append(str(call.op.name))
            return function(builder, call)

        return once(count, known)

    monkeypatch.setattr(legalize_once, "_once", counting)
    module, built_for = lowered("llvm")
    with built_for:
        legalize_once.legalize_ops()(module)
    assert written.count("relax.nn.silu") == 1
    assert written.count("relax.multiply") == 2
    assert written.count("relax.sum") == 2

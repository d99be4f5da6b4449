from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.gpu.kernels import assert_equals_eager, assert_no_faults

r = torch.randn


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x.permute(0, 2, 3, 1).contiguous(), (2, 12, 8, 4)),
        (lambda x: x.transpose(1, 2) * 2.0, (2, 8, 12)),
        (lambda x: x.transpose(0, 1).contiguous(), (5, 7)),
    ],
    ids=["channels last", "with arithmetic", "odd"],
)
def test_equals_eager(function, shape: tuple[int, ...], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert_equals_eager(Function(function), (r(shape),), tmp_path)


def test_passes_the_criteria() -> None:
    assert_no_faults(Function(lambda x: x.permute(0, 2, 3, 1).contiguous()), (r(1, 64, 32, 32),))

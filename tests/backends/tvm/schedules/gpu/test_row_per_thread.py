from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.backends.tvm.op_cases import Built, case, numbered
from tests.backends.tvm.schedules.gpu.kernels import assert_no_faults, kernels_of

aten = torch.ops.aten
r = torch.randn
CASES = numbered(
    [
        case(aten.layer_norm.default, r(3, 150, 20), [20], r(20), r(20)),
        case(aten.layer_norm.default, r(2, 7, 33), [33], None, None),
        case(aten.softmax.int, r(4, 70, 24), -1),
        case(aten.softmax.int, r(4, 6, 5), 1),
        case(aten.sum.dim_IntList, r(300, 16), [1]),
        case(aten.sum.dim_IntList, r(16, 40), [0]),
        case(aten.mean.dim, r(4, 5, 6), [1, 2], True),
        case(aten.avg_pool2d.default, r(1, 3, 8, 8), [2, 2]),
        case(aten.max_pool2d.default, r(1, 3, 9, 9), [3, 3], [2, 2], [1, 1]),
    ]
)


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES, "opencl")


@pytest.mark.parametrize("name", CASES)
def test_equals_eager(built: Built, name: str) -> None:
    built.check(name, 1e-4)


def test_short_rows_take_no_local_memory() -> None:
    (kernel,) = kernels_of(nn.LayerNorm(32), (r(1, 1024, 32),), "mali-g78")
    assert kernel.local_memory_bytes == 0
    assert kernel.grid[0] * kernel.block[0] == 1024


def test_passes_the_criteria() -> None:
    assert_no_faults(nn.LayerNorm(64), (r(1, 2048, 64),))

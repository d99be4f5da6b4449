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
        case(aten.layer_norm.default, r(1, 7, 320), [320], r(320), r(320)),
        case(aten.softmax.int, r(3, 200), -1),
        case(aten.group_norm.default, r(1, 8, 16, 16), 4, r(8), r(8)),
        case(aten.sum.dim_IntList, r(2, 3000), [1]),
        case(aten.amax.default, r(3, 500), [1]),
        case(aten.argmax.default, r(5, 130), 1),
        case(aten.var.correction, r(4, 250), [1]),
    ]
)


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES, "opencl")


@pytest.mark.parametrize("name", CASES)
def test_equals_eager(built: Built, name: str) -> None:
    built.check(name, 1e-4)


def test_group_norm_at_batch_one_has_a_work_group_per_piece() -> None:
    kernels = kernels_of(nn.GroupNorm(2, 32), (r(1, 32, 64, 64),), "mali-g78")
    sums = [kernel for kernel in kernels if "sum" in kernel.name and kernel.work.flops > 65536]
    assert len(sums) == 2, "the mean, then the distance from it"
    assert all(kernel.grid[0] == 32 for kernel in sums), "pieces of 4096"


def test_passes_the_criteria() -> None:
    assert_no_faults(nn.LayerNorm(1024), (r(1, 77, 1024),))

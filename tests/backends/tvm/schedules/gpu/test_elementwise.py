from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.backends.tvm.execute import Function
from tests.backends.tvm.op_cases import Built, case, numbered
from tests.backends.tvm.schedules.gpu.kernels import assert_no_faults, kernels_of

aten = torch.ops.aten
r = torch.randn
CASES = numbered(
    [
        case(aten.silu.default, r(3, 7, 8)),
        case(aten.gelu.default, r(5, 13)),
        case(aten.add.Tensor, r(2, 6, 4), r(6, 1)),
        case(aten.where.self, r(3, 5) > 0, r(3, 5), r(3, 5)),
        case(aten.cat.default, [r(1, 3, 4), r(1, 2, 4)], 1),
        case(aten.embedding.default, r(10, 6), torch.tensor([[1, 9, 0]])),
        case(aten.upsample_nearest2d.vec, r(1, 2, 3, 4), None, [2.0, 2.0]),
    ]
)


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES, "opencl")


@pytest.mark.parametrize("name", CASES)
def test_equals_eager(built: Built, name: str) -> None:
    built.check(name, 1e-4)


def test_a_thread_takes_a_vector() -> None:
    (kernel,) = kernels_of(nn.SiLU(), (r(64, 1024),), "adreno-830")
    assert kernel.grid[0] * kernel.block[0] * 4 == 64 * 1024
    assert "vload4" in kernel.source


def test_rows_that_no_vector_divides_run_together() -> None:
    (kernel,) = kernels_of(Function(lambda a, b: a + b), (r(64, 7), r(64, 7)), "adreno-830")
    assert "vload4" in kernel.source


def test_passes_the_criteria() -> None:
    assert_no_faults(nn.GELU(), (r(1, 77, 320),))

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backends.targets import find_target
from penstock.backends.tvm.schedules.gpu.contraction import Contraction
from penstock.backends.tvm.schedules.gpu.register_tiles import best_part, choose
from tests.backends.tvm.op_cases import Built, case, numbered
from tests.backends.tvm.schedules.gpu.kernels import assert_equals_eager, assert_no_faults, kernels_of

aten = torch.ops.aten
r = torch.randn

CASES = numbered(
    [
        case(aten.conv1d.default, r(2, 6, 19), r(10, 6, 4), r(10), [1], [3]),
        case(aten.conv2d.default, r(1, 8, 9, 7), r(12, 8, 3, 3), r(12), [1, 1], [1, 1]),
        case(aten.conv2d.default, r(2, 5, 8, 8), r(3, 5, 3, 3), None, [2, 2], [1, 1]),
        case(aten.conv2d.default, r(1, 4, 16, 16), r(8, 4, 3, 3), None, [1, 1], [2, 2], [2, 2]),
        case(aten.conv2d.default, r(1, 16, 8, 8), r(32, 16, 1, 1), r(32)),
        case(aten.conv2d.default, r(1, 12, 8, 8), r(12, 1, 3, 3), r(12), [1, 1], [1, 1], [1, 1], 12),
        case(aten.conv2d.default, r(1, 12, 8, 8), r(24, 1, 3, 3), None, [1, 1], [1, 1], [1, 1], 12),
        case(aten.conv2d.default, r(1, 12, 8, 8), r(8, 6, 3, 3), r(8), [1, 1], [1, 1], [1, 1], 2),
        case(aten.conv3d.default, r(1, 4, 3, 6, 5), r(8, 4, 3, 3, 3), r(8), [1, 1, 1], [1, 1, 1]),
        case(aten.linear.default, r(3, 17, 20), r(33, 20), r(33)),
        case(aten.linear.default, r(2, 7), r(5, 7)),
        case(aten.matmul.default, r(5, 9, 12), r(5, 12, 8)),
        case(aten.matmul.default, r(2, 3, 8, 8), r(2, 3, 8, 8)),
    ]
)


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES, "opencl")


@pytest.mark.parametrize("name", CASES)
def test_equals_eager(built: Built, name: str) -> None:
    built.check(name, 1e-4)


def test_epilogue_and_packed_weights(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(6, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(2), nn.Linear(16, 9)
    )
    kernels = kernels_of(net, (r(1, 6, 6, 6),), "opencl")
    assert len(kernels) == 3, "bias, activation and casts are part of the sums' kernels"
    assert_equals_eager(net, (r(1, 6, 6, 6),), tmp_path)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(64, 64, 3, padding=1), (1, 64, 32, 32)),
        (nn.Conv2d(64, 64, 3, padding=1, groups=4), (1, 64, 32, 32)),
        (nn.Conv3d(32, 32, 3, padding=1), (1, 32, 4, 16, 16)),
        (nn.Linear(320, 1280), (1, 77, 320)),
    ],
    ids=["conv2d", "grouped", "conv3d", "linear"],
)
def test_passes_the_criteria(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert_no_faults(module, (r(*shape),))


def _linear(rows: int, columns: int) -> Contraction:
    return Contraction(None, 0, (), (0,), (1,), (2,), (rows, columns, 64), False, True, frozenset(), "int64")


def test_large_products_fill_the_registers_and_small_ones_the_device() -> None:
    device = find_target("mali-g78")
    large, small = (choose(_linear(rows, 256), device, 4) for rows in (4096, 16))
    assert large.rows[0] * large.lanes == device.compute.sums
    assert small.rows[0] < large.rows[0]


@pytest.mark.parametrize(("extent", "limit", "part"), [(64, 16, 16), (7, 16, 7), (77, 16, 16), (12, 8, 6), (1, 8, 1)])
def test_parts_are_large_and_leave_little(extent: int, limit: int, part: int) -> None:
    assert best_part(extent, limit) == part

from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, check_gpu_source, numbered

aten = torch.ops.aten
torch.manual_seed(0)
LINE = torch.randn(2, 3, 9)
IMAGE = torch.randn(2, 3, 7, 6)
CUBE = torch.randn(1, 2, 3, 4, 5)
NEAREST = [aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec]
EXACT = [aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec]

CASES = numbered(
    [
        case(aten.max_pool2d.default, IMAGE, [2, 2]),
        case(aten.max_pool2d.default, IMAGE, [3], [2], [1]),
        case(aten.max_pool2d.default, IMAGE, [3, 2], [2, 1], [1, 0], [1, 2], True),
        case(aten.max_pool2d.default, IMAGE[0], [3, 3], [2, 2], [1, 1], [1, 1], True),
        case(aten.avg_pool1d.default, LINE, [3], [2], [1]),
        case(aten.avg_pool1d.default, LINE, [3], [2], [1], True, False),
        case(aten.avg_pool2d.default, IMAGE, [2]),
        case(aten.avg_pool2d.default, IMAGE, [3, 2], [2, 2], [1, 1], True, True),
        case(aten.avg_pool2d.default, IMAGE, [3, 2], [2, 2], [1, 1], True, False),
        case(aten.avg_pool2d.default, IMAGE, [2, 2], [2, 2], [0, 0], False, True, 3),
        case(aten.avg_pool3d.default, CUBE, [2], [1], [1]),
        *(
            case(op, item, None, [factor] * (item.dim() - 2))
            for ops in (NEAREST, EXACT)
            for op, item in zip(ops, (LINE, IMAGE, CUBE), strict=True)
            for factor in (2.0, 1.5, 0.4)
        ),
        *(case(op, LINE, None, [factor]) for op in (NEAREST[0], EXACT[0]) for factor in (3.0, 41.0, 2.3)),
        case(NEAREST[1], IMAGE, [10, 6], None),
        case(EXACT[1], IMAGE, [5, 13], None),
        case(NEAREST[2], CUBE, [3, 8, 7], None),
        *(
            case(aten.upsample_bilinear2d.vec, IMAGE, [size, 11], corners, None)
            for size in (3, 14)
            for corners in (False, True)
        ),
        case(aten.upsample_bilinear2d.vec, IMAGE, None, False, [1.7, 2.0]),
        case(aten.upsample_bilinear2d.vec, IMAGE, [1, 1], True, None),
    ]
)
HALF = numbered(
    [
        case(aten.max_pool2d.default, IMAGE.half(), [2, 2]),
        case(aten.avg_pool2d.default, IMAGE.half(), [3, 3], [1, 1], [1, 1]),
        case(NEAREST[1], IMAGE.half(), None, [2.0, 2.0]),
        case(aten.upsample_bilinear2d.vec, IMAGE.half(), None, False, [2.0, 2.0]),
    ]
)
CASES |= {f"half_{name}": item for name, item in HALF.items()}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)


def test_compiles_for_a_phone() -> None:
    check_gpu_source(CASES, "adreno-740")

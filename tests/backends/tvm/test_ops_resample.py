from __future__ import annotations

import pytest
import torch

from tests.backends.tvm.op_cases import Built, case, numbered

aten = torch.ops.aten
torch.manual_seed(0)
LINE = torch.randn(2, 3, 9)
IMAGE = torch.randn(2, 3, 7, 6)
CUBE = torch.randn(1, 2, 3, 4, 5)
NEAREST = [aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec]
EXACT = [aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec]
BILINEAR, BICUBIC = aten.upsample_bilinear2d.vec, aten.upsample_bicubic2d.vec
LINEAR, TRILINEAR = aten.upsample_linear1d.vec, aten.upsample_trilinear3d.vec

CASES = numbered(
    [
        *(
            case(op, item, None, [factor] * (item.dim() - 2))
            for ops in (NEAREST, EXACT)
            for op, item in zip(ops, (LINE, IMAGE, CUBE), strict=True)
            for factor in (2.0, 1.5, 0.4)
        ),
        # 41 and 47: float32 rounds 1 / 41 so that 41 times it is less than one.
        *(
            case(op, LINE, None, [factor])
            for op in (NEAREST[0], EXACT[0])
            for factor in (3.0, 41.0, 47.0, 2.3, 2.05, 1.05, 0.7)
        ),
        case(NEAREST[1], IMAGE, [10, 6], None),
        case(EXACT[1], IMAGE, [5, 13], None),
        case(NEAREST[2], CUBE, [3, 8, 7], None),
        *(case(BILINEAR, IMAGE, [size, 11], corners, None) for size in (3, 14) for corners in (False, True)),
        case(BILINEAR, IMAGE, None, False, [1.7, 2.0]),
        case(BILINEAR, IMAGE, [1, 1], True, None),
        *(case(BICUBIC, IMAGE, [size, 11], corners, None) for size in (3, 14) for corners in (False, True)),
        case(BICUBIC, IMAGE, None, False, [1.7, 2.0]),
        case(BICUBIC, IMAGE, [1, 1], True, None),
        case(BICUBIC, IMAGE[:, :, :1, :2], [5, 3], False, None),
        *(case(LINEAR, LINE, [size], corners, None) for size in (4, 20) for corners in (False, True)),
        *(case(TRILINEAR, CUBE, [2, size, 7], corners, None) for size in (3, 9) for corners in (False, True)),
        case(TRILINEAR, CUBE, None, False, [2.0, 1.5, 0.7]),
    ]
) | {
    "half_nearest": case(NEAREST[1], IMAGE.half(), None, [2.0, 2.0]),
    "half_bilinear": case(BILINEAR, IMAGE.half(), None, False, [2.0, 2.0]),
    "half_bicubic": case(BICUBIC, IMAGE.half(), None, False, [2.0, 2.0]),
}


@pytest.fixture(scope="module")
def built() -> Built:
    return Built(CASES)


@pytest.mark.parametrize("name", CASES)
def test_matches_torch(built: Built, name: str) -> None:
    built.check(name, 2e-3 if "half" in name else 1e-5)


def test_bilinear_weights_are_exact_on_long_lines() -> None:
    line = torch.randn(1, 1, 2, 300)
    (found,) = Built({"main": case(BILINEAR, line, [2, 1000], False, None)}).run("main")
    expected = BILINEAR(line.double(), [2, 1000], False, None)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)

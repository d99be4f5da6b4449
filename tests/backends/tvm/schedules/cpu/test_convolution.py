from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from tests.backends.tvm.schedules.cpu.together import Case, Outcome, kernels_of, legal, run

TILE = 'T.sblock("tile")'
LAYERS: list[tuple[type[nn.Module], tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    (nn.Conv2d, (3, 5, 3), {}, (2, 3, 9, 7)),
    (nn.Conv2d, (4, 8, 3), {"stride": 2, "padding": 1}, (2, 4, 9, 8)),
    (nn.Conv2d, (4, 8, 1), {}, (2, 4, 9, 8)),
    (nn.Conv2d, (4, 8, 1), {"stride": 2}, (2, 4, 9, 8)),
    (nn.Conv2d, (8, 8, 3), {"padding": 1, "groups": 8}, (2, 8, 13, 13)),
    (nn.Conv2d, (8, 16, 3), {"padding": 1, "groups": 4}, (2, 8, 13, 13)),
    (nn.Conv2d, (8, 12, 3), {"padding": 2, "dilation": 2}, (2, 8, 13, 13)),
    (nn.Conv2d, (8, 12, (3, 5)), {"padding": (1, 2), "stride": (1, 3)}, (1, 8, 13, 17)),
    (nn.Conv2d, (3, 32, 8), {"stride": 8}, (1, 3, 32, 32)),
    (nn.Conv2d, (3, 8, 7), {"stride": 5, "padding": 3}, (1, 3, 32, 33)),
    (nn.Conv2d, (64, 64, 3), {"padding": 1}, (4, 64, 24, 24)),
    (nn.Conv2d, (320, 20, 3), {"padding": 1}, (1, 320, 24, 96)),
    (nn.Conv2d, (16, 20, 3), {"padding": 1}, (8, 16, 3, 3)),
    (nn.Conv2d, (16, 20, 3), {}, (4, 16, 3, 3)),
    (nn.Conv2d, (6, 20, 4), {"padding": 1}, (1, 6, 5, 5)),
    (nn.Conv2d, (6, 6, 7), {"padding": 3, "groups": 6}, (1, 6, 30, 30)),
    (nn.Conv2d, (4, 4, 3), {"padding": 2}, (1, 4, 5, 5)),
    (nn.Conv2d, (4, 4, 1), {"padding": 2}, (1, 4, 5, 5)),
    (nn.Conv1d, (4, 6, 3), {"padding": 1}, (2, 4, 17)),
    (nn.Conv1d, (4, 4, 4), {"padding": 3, "groups": 4}, (1, 4, 20)),
    (nn.Conv1d, (4, 6, 5), {"stride": 2}, (2, 4, 33)),
    (nn.Conv3d, (4, 6, (3, 1, 1)), {"padding": (1, 0, 0)}, (1, 4, 8, 6, 6)),
    (nn.Conv3d, (4, 6, 3), {"padding": 1}, (2, 4, 5, 6, 7)),
    (nn.Conv3d, (4, 6, 3), {"padding": 1, "stride": 2}, (1, 4, 5, 6, 7)),
    (nn.Conv3d, (32, 32, (3, 1, 1)), {"padding": (1, 0, 0)}, (1, 32, 8, 12, 12)),
]


class Block(nn.Module):
    """A convolution with all that may follow it in its kernel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.silu(self.conv(x)) + y


def cases() -> dict[str, Case]:
    torch.manual_seed(0)
    made: dict[str, Case] = {}
    for layer, args, settings, shape in LAYERS:
        made[f"{layer.__name__} {args} {settings} {shape}"] = layer(*args, **settings), (torch.randn(shape),)
    made["without bias"] = nn.Conv2d(4, 6, 3, bias=False), (torch.randn(1, 4, 8, 8),)
    made["without batch"] = nn.Conv2d(4, 6, 3), (torch.randn(4, 8, 8),)
    made["epilogue"] = Block(20), (torch.randn(3, 20, 12, 12), torch.randn(3, 20, 12, 12))
    made["transposed"] = nn.ConvTranspose2d(4, 6, 4, 2, 1), (torch.randn(2, 4, 7, 5),)
    made["half"] = nn.Conv2d(16, 24, 3, padding=1).half(), (torch.randn(3, 16, 12, 12).half(),)
    return made


NAMES = list(cases())


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(cases(), tmp_path_factory.mktemp("convolution"))


@pytest.mark.parametrize("name", NAMES)
def test_equals_eager(name: str, outcome: Outcome) -> None:
    assert outcome.error(name) < (2e-2 if name == "half" else 1e-5)


def test_one_kernel_with_everything_that_follows() -> None:
    (source,) = kernels_of(Block(16), torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8))
    assert TILE in source
    assert "T.exp" in source or "T.sigmoid" in source


def test_a_transposed_convolution_is_tiled_and_its_weight_is_made_at_compile_time() -> None:
    convolution, shuffle = kernels_of(nn.ConvTranspose2d(8, 16, 4, 2, 1), torch.randn(2, 8, 8, 8))
    assert TILE in convolution
    assert TILE not in shuffle


def test_nothing_as_large_as_the_input_is_kept_between_kernels() -> None:
    """The slab belongs to a task: no buffer of the whole function holds a padded copy."""
    layer = nn.Conv2d(8, 8, 3, padding=1)
    compiled = compile_program(legal(layer, torch.randn(4, 8, 16, 16)), find_target("llvm"))
    (body,) = compiled.bodies.values()
    assert not [storage for storage in body.storages if storage.space == "local"]


def test_double_precision_is_left_to_others() -> None:
    layer = nn.Conv2d(4, 4, 3).double()
    assert not any(TILE in source for source in kernels_of(layer, torch.randn(1, 4, 8, 8, dtype=torch.float64)))


@pytest.mark.tool
@pytest.mark.parametrize("target", ["linux-arm64-cpu", "ios-cpu", "android-cpu"])
def test_tiles_for_phones(target: str) -> None:
    sources = kernels_of(nn.Conv2d(8, 8, 3, padding=1), torch.randn(1, 8, 8, 8), target=target)
    assert TILE in sources[0]

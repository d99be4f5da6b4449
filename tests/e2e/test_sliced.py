"""Models in less memory, through the native runner: the same numbers, in an arena that keeps to the budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import penstock
from examples.zoo import ZOO
from penstock.backends.runner import opencl_devices
from penstock.passes.core.program import SliceLoop
from penstock.passes.slicing.choose import Choice, planner_of
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.recipe import SlicingPlan, recipe_of

pytestmark = [pytest.mark.models, pytest.mark.native]


@pytest.mark.parametrize(
    ("name", "share", "target"),
    [
        ("unet2d", 0.5, "llvm"),
        ("animatediff_unet", 0.5, "llvm"),
        ("mamba", 0.6, "llvm"),
        ("ltx_dit", 0.6, "llvm"),
        ("wan_dit", 0.65, "llvm"),
        ("svd_vae_decoder", 0.6, "llvm"),
        ("unet2d", 0.5, "opencl"),
        ("wan_dit", 0.65, "opencl"),
    ],
)
def test_a_sliced_model_equals_eager(name: str, share: float, target: str, tmp_path: Path) -> None:
    if target == "opencl" and not opencl_devices():
        pytest.skip("no OpenCL device")
    module, args = ZOO[name]()
    with torch.no_grad():
        for parameter in module.parameters():  # norms of a new model are all alike
            parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
        expected = module(*args)
    program = penstock.optimize(penstock.capture(module, args))
    before = penstock.memory(program)
    budget = before.weight_bytes + int(share * before.activation_bytes)
    sliced = penstock.optimize(program, target, budget, pipeline="none")
    assert any(isinstance(op, SliceLoop) for op in sliced.plan.ops())
    artifact = penstock.compile(sliced, target, tmp_path / "net.penstock", cache=False)
    planned = penstock.memory(sliced).activation_bytes
    assert 0.95 * planned <= artifact.manifest.memory.arena_bytes <= 1.05 * planned
    loaded = penstock.load(artifact.path)
    for _ in range(2):
        torch.testing.assert_close(loaded(*args), expected, rtol=1e-4, atol=1e-4)


class Normed(nn.Module):
    """Convolutions around a norm over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Conv2d(4, 32, 3, padding=1), nn.Conv2d(32, 4, 3, padding=1)
        self.norm = nn.GroupNorm(4, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(nn.functional.silu(self.norm(self.widen(x))))


@pytest.mark.parametrize("target", ["llvm", "opencl"])
def test_a_last_part_that_is_smaller_equals_eager(target: str, tmp_path: Path) -> None:
    if target == "opencl" and not opencl_devices():
        pytest.skip("no OpenCL device")
    torch.manual_seed(0)
    module, args = Normed(), (torch.randn(1, 4, 37, 41),)
    with torch.no_grad():
        expected = module(*args)
    program = penstock.capture(module, args)
    before = penstock.memory(program)
    sliced = penstock.optimize(program, target, before.weight_bytes + before.activation_bytes // 3, pipeline="none")
    sweep, main = (op for op in sliced.plan.ops() if isinstance(op, SliceLoop))
    for loop in (sweep, main):
        rows = [window.extent for piece in loop.pieces for _, window in piece.args if window is not None]
        assert len(set(rows)) > 2  # at the border, in the middle, and at the end
    artifact = penstock.compile(sliced, target, tmp_path / "net.penstock", cache=False)
    assert artifact.manifest.memory.arena_bytes <= 1.05 * penstock.memory(sliced).activation_bytes
    torch.testing.assert_close(penstock.load(artifact.path)(*args), expected, rtol=1e-4, atol=1e-4)


class Sharpened(nn.Module):
    """Convolutions with a skip around them, and an upsampling: parts overlap by many rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, third, fourth, last = self.layers
        x = x + second(nn.functional.silu(first(x)))
        x = nn.functional.interpolate(x, scale_factor=2.0)
        return last(x + fourth(nn.functional.silu(third(x))))


@pytest.mark.parametrize("parts", [3, 8, 32])
@pytest.mark.parametrize("target", ["llvm", "opencl"])
def test_parts_that_keep_halos_equal_eager(target: str, parts: int, tmp_path: Path) -> None:
    if target == "opencl" and not opencl_devices():
        pytest.skip("no OpenCL device")
    module, args = Sharpened(), (torch.randn(1, 8, 32, 16),)
    program = penstock.capture(module, args)
    last = len([node for node in program.graphs["main"].graph.nodes if node.op == "call_function"])
    planner = planner_of(program, "main", "fused")
    assert len(planner.line.nodes) == last
    group = planner.groups.given((0, last), 2, CutRecipe(parts=parts, keeps_halos=True), [], None)
    recipe = recipe_of(Choice(planner, planner.scheduled([group])))
    path = tmp_path / "plan.json"
    path.write_text(SlicingPlan(graphs={"main": recipe}).model_dump_json())
    sliced = penstock.optimize(program, target, pipeline=[f"feature-slicing:plan={path}"])
    (loop,) = (op for op in sliced.plan.ops() if isinstance(op, SliceLoop))
    assert loop.kept
    artifact = penstock.compile(sliced, target, tmp_path / "net.penstock", cache=False)
    planned = penstock.memory(sliced).activation_bytes
    assert artifact.manifest.memory.arena_bytes <= 1.05 * planned < 0.9 * penstock.memory(program).activation_bytes
    loaded = penstock.load(artifact.path)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(loaded(*args), module(*args), rtol=1e-4, atol=1e-4)


class Patches(nn.Module):
    """Patches of a video whose frames lie before its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv3d(3, 8, (2, 8, 8), stride=(2, 8, 8))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.patches(video.permute(0, 2, 1, 3, 4))


class Late(nn.Module):
    """A video without its first frames."""

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return torch.tanh(video.repeat(1, 4, 1, 1, 1))[:, 6:]


class Mosaic(nn.Module):
    """Frames that are put together of tiles at the end: a copy made in parts, and a look at it in another shape."""

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        tiles = torch.tanh(video.repeat(1, 2, 1, 1, 1)).unflatten(1, (4, 2, 2))
        return tiles.permute(0, 1, 4, 5, 2, 6, 3).flatten(3, 4).flatten(4, 5)


@pytest.mark.parametrize("module", [Patches(), Late(), Mosaic()], ids=["permuted operand", "part as result", "shape"])
def test_what_kernels_copy_is_planned(module: nn.Module, tmp_path: Path) -> None:
    args = (torch.randn(1, 8, 3, 32, 32),)
    sliced = penstock.optimize(penstock.capture(module, args), memory_budget="min")
    artifact = penstock.compile(sliced, "llvm", tmp_path / "net.penstock", cache=False)
    planned = penstock.memory(sliced).activation_bytes
    assert 0.95 * planned <= artifact.manifest.memory.arena_bytes <= 1.05 * planned
    with torch.no_grad():
        torch.testing.assert_close(penstock.load(artifact.path)(*args), module(*args), rtol=1e-4, atol=1e-4)


class Masked(nn.Module):
    """Attention to positions that a condition allows: the mask is a number per pair of positions in the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.view(1, 256, 4, 4).transpose(1, 2)
        place = torch.arange(256)
        allowed = (place[:, None] >= place) & (place[:, None] - place < 100)
        found = nn.functional.scaled_dot_product_attention(heads.sin(), heads.cos(), heads.tanh(), allowed)
        return found.transpose(1, 2).flatten(2)


def test_a_boolean_mask_is_planned(tmp_path: Path) -> None:
    module, args = Masked(), (torch.randn(1, 256, 16),)
    sliced = penstock.optimize(penstock.capture(module, args), memory_budget="min")
    artifact = penstock.compile(sliced, "llvm", tmp_path / "net.penstock", cache=False)
    planned = penstock.memory(sliced).activation_bytes
    assert planned < 256 * 256 * 4  # the whole mask
    assert 0.95 * planned <= artifact.manifest.memory.arena_bytes <= 1.05 * planned
    torch.testing.assert_close(penstock.load(artifact.path)(*args), module(*args), rtol=1e-4, atol=1e-4)


class Biased(nn.Module):
    """Attention with a table per head, of 77 × 77 positions: tables begin at bytes that no vector is aligned to."""

    def forward(self, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        heads = x.view(1, 77, 6, 8).transpose(1, 2)
        found = nn.functional.scaled_dot_product_attention(heads.sin(), heads.cos(), heads.tanh(), table.exp())
        return found.transpose(1, 2).flatten(2)


def test_parts_at_odd_places_are_read_where_they_lie(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, args = Biased(), (torch.randn(1, 77, 48), torch.randn(1, 6, 77, 77))
    program = penstock.capture(module, args)
    sliced = penstock.optimize(program, memory_budget=int(0.75 * penstock.memory(program).activation_bytes))
    (loop,) = (op for op in sliced.plan.ops() if isinstance(op, SliceLoop))
    assert [window.size for _, window in loop.pieces[0].args if window is not None] == [6] * 4
    artifact = penstock.compile(sliced, "llvm", tmp_path / "net.penstock", cache=False)
    assert artifact.manifest.memory.arena_bytes <= 1.05 * penstock.memory(sliced).activation_bytes
    with torch.no_grad():
        torch.testing.assert_close(penstock.load(artifact.path)(*args), module(*args), rtol=1e-4, atol=1e-4)

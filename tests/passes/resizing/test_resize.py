"""Resizing against capturing anew, over the zoo and over what makes sizes hard to tell; and what cannot be resized."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import penstock
from examples.zoo import ZOO
from penstock.passes.core.errors import UsageError
from penstock.passes.core.program import Program
from penstock.passes.resizing import parse_sizes, resize
from tests.passes.resizing.anew import assert_as_captured
from tests.passes.slicing.slices import Function, captured

Sizes = dict[int, dict[int, int]]


@functools.cache
def program_of(name: str) -> Program:
    return penstock.capture(*ZOO[name]())


def renewed(arg: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    if not arg.dim():
        return arg
    if arg.is_floating_point():
        return torch.randn(shape, generator=generator)
    return torch.randint(0, int(arg.max()) + 1, shape, generator=generator).to(arg.dtype)


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "sizes", "constants"),
    [
        ("svd_unet", {0: {1: 6}}, {}),
        ("svd_unet", {0: {0: 2, 1: 3, 3: 4, 4: 10}, 2: {0: 2}, 3: {0: 2}}, {}),
        ("animatediff_unet", {0: {2: 8, 3: 12}}, {}),
        ("animatediff_unet", {0: {0: 2}, 2: {0: 8, 1: 9}}, {}),
        ("unet2d", {0: {0: 1, 2: 16, 3: 12}}, {}),
        ("unet2d", {0: {2: 4}, 2: {1: 9}}, {}),
        ("svd_vae_decoder", {0: {0: 5, 2: 6, 3: 10}}, {"num_frames": 5}),
        ("dc_autoencoder", {0: {0: 2, 2: 24, 3: 8}}, {}),
        ("ltx_vae_decoder", {0: {2: 4, 3: 2, 4: 8}}, {}),
        ("ltx_vae_decoder", {0: {0: 2, 2: 3}}, {}),
        ("wan_vae_decoder", {0: {0: 2, 3: 6, 4: 5}}, {}),
        ("ltx_dit", {0: {1: 48}, 1: {1: 9}, 3: {1: 9}}, {"num_frames": 3}),
        ("ltx_dit", {0: {0: 2}, 1: {0: 2}, 2: {0: 2}, 3: {0: 2}}, {}),
        ("wan_dit", {0: {2: 3, 3: 12, 4: 4}}, {}),
        ("wan_dit", {0: {0: 2}, 1: {0: 2}, 2: {0: 2, 1: 9}}, {}),
        ("cogvideox_dit", {0: {0: 2}, 1: {0: 2}, 2: {0: 2}}, {}),
        ("hunyuan_dit", {0: {2: 3, 3: 6, 4: 8}, 2: {1: 9}, 3: {1: 9}}, {}),
        ("mamba", {0: {0: 3}}, {}),
        ("mamba2", {0: {1: 24}}, {}),
        ("vit", {0: {0: 3}}, {}),
        ("llama", {0: {0: 2, 1: 11}}, {}),
    ],
)
def test_a_real_model_is_as_captured_anew(name: str, sizes: Sizes, constants: dict[str, int]) -> None:
    program = program_of(name)
    names = [spec.name for spec in program.signature.inputs]
    resized = resize(program, {names[place]: dims for place, dims in sizes.items()})
    model, args = ZOO[name]()
    for key, value in constants.items():
        model.get_submodule("").constants[key] = value  # type: ignore[operator, index]
    shapes = [spec.shape for spec in resized.signature.inputs]
    for place, dims in sizes.items():
        assert all(shapes[place][dim] == size for dim, size in dims.items())
    assert_as_captured(resized, model, [renewed(arg, shape) for arg, shape in zip(args, shapes, strict=True)])


def windows(x: torch.Tensor) -> torch.Tensor:
    b, h, w, c = x.shape
    parts = x.view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    mixed = F.scaled_dot_product_attention(parts, parts, parts)
    return mixed.reshape(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


def positions(x: torch.Tensor) -> torch.Tensor:
    places = torch.arange(x.shape[1])
    near = (places[:, None] - places[None]).abs() <= 2
    return F.scaled_dot_product_attention(x, x, x, near) + (places < x.shape[1] - 1)[:, None]


def backwards(x: torch.Tensor) -> torch.Tensor:
    return x[:, :-1] - x[:, 1:] + x[:, x.shape[1] - 1 - torch.arange(x.shape[1] - 1)]


def text_and_image(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mixed = torch.cat([x, y], 1)
    mixed = F.scaled_dot_product_attention(mixed, mixed, mixed)
    text, image = mixed.split([x.shape[1], y.shape[1]], 1)
    return torch.cat([image.relu(), text.exp()], 1)[:, : y.shape[1]] + y


def to_a_size(x: torch.Tensor) -> torch.Tensor:
    small = F.avg_pool2d(x, 2)
    return F.interpolate(small, size=x.shape[-2:], mode="bilinear") + F.interpolate(small, scale_factor=2.0)


def normed_over_frames(x: torch.Tensor) -> torch.Tensor:
    b, t, c = x.shape
    return F.group_norm(x.transpose(1, 2), 2).transpose(1, 2) + torch.zeros(b, t, c).cumsum(1)


def classes(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.ones(1, 1, x.shape[2]).expand(x.shape[0], -1, -1), x], 1)[:, 0]


def unfolded(x: torch.Tensor) -> torch.Tensor:
    return x.unfold(2, 2, 2).sum(-1) if x.dim() == 3 else x


def rows_by_number(x: torch.Tensor) -> torch.Tensor:
    return x[torch.arange(x.shape[0])[:, None], torch.arange(x.shape[1])[None]].cumsum(1)


def masked_from(x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    ends = length + x.shape[1]
    return x * (torch.arange(2 * x.shape[1])[None] < ends[:, None])[:, : x.shape[1], None]


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (windows, [(2, 8, 8, 4)], [(3, 12, 4, 4)]),
        (windows, [(2, 8, 8, 4)], [(2, 4, 16, 4)]),
        (positions, [(2, 8, 8)], [(2, 5, 8)]),
        (backwards, [(2, 6, 4)], [(2, 9, 4)]),
        (text_and_image, [(2, 5, 8), (2, 7, 8)], [(2, 3, 8), (2, 12, 8)]),
        (text_and_image, [(2, 4, 8), (2, 4, 8)], [(2, 6, 8), (2, 8, 8)]),
        (to_a_size, [(1, 2, 8, 8)], [(1, 2, 12, 20)]),
        (normed_over_frames, [(2, 4, 4)], [(2, 6, 4)]),
        (classes, [(2, 3, 4)], [(5, 6, 4)]),
        (unfolded, [(2, 3, 8)], [(2, 3, 12)]),
        (rows_by_number, [(2, 5, 4)], [(3, 7, 4)]),
        (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2).relu(), 2), [(2, 8, 4, 4)], [(3, 8, 5, 6)]),
        (lambda x: sum(x.chunk(4, 1)), [(2, 8, 3)], [(2, 12, 3)]),
        (lambda x: x.flatten(1).softmax(-1).view_as(x).flip(1), [(4, 4, 4)], [(3, 5, 2)]),
        (lambda x: x.repeat(2, 1, 3).unflatten(2, (3, -1)), [(2, 3, 4)], [(3, 2, 5)]),
        (lambda x: F.pad(x, (2, 1)).roll(1, 1), [(4, 4)], [(3, 7)]),
        (lambda x: F.pad(F.pad(x, (2, 1), mode="replicate"), (1, 1), mode="reflect").relu(), [(4, 4)], [(3, 7)]),
    ],
)
def test_hard_to_tell(function: Any, old: list[tuple[int, ...]], new: list[tuple[int, ...]]) -> None:
    generator = torch.Generator().manual_seed(0)
    program = captured(function, *(torch.rand(shape, generator=generator) for shape in old))
    names = [spec.name for spec in program.signature.inputs]
    resized = resize(program, {name: dict(enumerate(shape)) for name, shape in zip(names, new, strict=True)})
    model = Function(function).eval()
    assert_as_captured(resized, model, [torch.rand(shape, generator=generator) for shape in new])


def test_whole_numbers_that_were_sizes_follow() -> None:
    model = Function(masked_from).eval()
    program = captured(model, torch.rand(2, 6, 4), torch.tensor([-2, -1]))
    first = program.signature.inputs[0].name
    assert_as_captured(resize(program, {first: {1: 9}}), model, [torch.rand(2, 9, 4), torch.tensor([-3, -1])])


def test_other_numbers_that_may_have_been_sizes_are_named(caplog: pytest.LogCaptureFixture) -> None:
    program = captured(lambda x: x.sum(1) / x.shape[1] + x[:, 0] * x.shape[1], torch.rand(2, 6))
    with caplog.at_level(logging.WARNING):
        resize(program, {program.signature.inputs[0].name: {0: 3}})
        assert "may have been" not in caplog.text
        resize(captured(lambda x: x * x.shape[1], torch.rand(2, 6)), {"args_0": {1: 7}})
    assert "computes with 6, which may have been the size 6, now 7: it stays as it is" in caplog.text


def test_the_same_sizes_are_the_same_program() -> None:
    program = captured(F.relu, torch.rand(2, 6))
    assert resize(program, {"args_0": {1: 6}}) is program


def test_without_data() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        program = penstock.capture(nn.Conv2d(4, 4, 3, padding=1), [torch.empty(1, 4, 8, 8)])
    resized = penstock.resize(program, {"input_1": {2: 1024}})
    assert resized.signature.outputs[0].shape == (1, 4, 1024, 8)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.rand(1, 6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.places


@pytest.mark.parametrize(
    ("model", "shape", "sizes", "says"),
    [
        (Embedded(), (2, 6, 4), {"x": {1: 7}}, "the weight 'places' has this size, which 'add' .* needs"),
        (Embedded(), (2, 6, 4), {"x": {2: 8}}, "cannot have 8 at dimension 2: the weight 'places'"),
        (nn.Linear(4, 4), (2, 4), {"input_1": {1: 8}}, "'weight' has this size, which 'linear' .* needs"),
        (nn.ReLU(), (2, 4), {"input_1": {2: 8}}, r"input 'input_1' is \[2, 4\]: there can be no size 8 at dimension 2"),
        (nn.ReLU(), (2, 4), {"input_1": {1: 0}}, "there can be no size 0"),
        (nn.ReLU(), (2, 4), {"y": {0: 8}}, "there is no input 'y'; the inputs are input_1"),
        (lambda x: x.view(2, 3, 2).sum(1), (2, 6), {"args_0": {1: 7}}, "would be 7, which has to be a multiple of 2"),
        (
            lambda x: x.view(3, 4).sum(1),
            (2, 6),
            {"args_0": {1: 8}},
            "which of these numbers would change",
        ),
        (lambda x: x + x.t(), (4, 4), {"args_0": {0: 5, 1: 6}}, "is to be 5, .* 6, but they are the same"),
        (
            lambda x: torch.stack(x.unbind(1)),
            (2, 3),
            {"args_0": {1: 4}},
            "'unbind' .* makes 4 parts where 3 are",
        ),
        (
            lambda x: x[:, :4] + torch.ones(1, 8).cumsum(1)[:, 2:6],
            (2, 4),
            {"args_0": {1: 3}},
            "takes 4 of 8 from 2 on; from where it would take 3 of 8 cannot be told",
        ),
        (lambda x: x.reshape(3, 8), (3, 1, 8), {"args_0": {1: 2}}, "was 1, which leaves open what 'view' .* does"),
    ],
)
def test_what_cannot_be(model: Any, shape: tuple[int, ...], sizes: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resize(captured(model, torch.rand(shape)), sizes)


def test_a_sliced_program_is_too_late() -> None:
    program = captured(nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)), torch.randn(1, 64, 8))
    budget = program.weight_bytes + 3 * 64 * 8 * 4
    sliced = penstock.optimize(program, memory_budget=str(budget))
    with pytest.raises(UsageError, match="resize first, then slice"):
        resize(sliced, {"input_1": {1: 32}})


def test_settings_are_read() -> None:
    assert parse_sizes(["sample:1=25", "sample:3=64", "text:1=77"]) == {"sample": {1: 25, 3: 64}, "text": {1: 77}}
    with pytest.raises(UsageError, match="write INPUT:DIM=SIZE"):
        parse_sizes(["sample=25"])

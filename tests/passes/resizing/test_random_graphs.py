"""Random graphs at random sizes: resizing is the same as capturing anew."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from penstock.passes.resizing import resize
from tests.passes.resizing.anew import assert_as_captured
from tests.passes.slicing.slices import captured

NAMES = (
    "conv", "time", "norm", "act", "attend", "tokens", "down", "up", "skip", "cat", "scale", "pad",
    "rope", "fold", "causal", "shuffle", "chunk", "first", "patches", "mean",
)  # fmt: skip


class Random(nn.Module):
    """Layers on [batch, channels, frames, height, width], as their names say; which run does not hang on sizes."""

    def __init__(self, layers: list[str], channels: int) -> None:
        super().__init__()
        torch.manual_seed(len(layers) + channels)
        c = channels
        makers = {
            "conv": lambda: nn.Conv3d(c, c, (1, 3, 3), padding=(0, 1, 1)),
            "time": lambda: nn.Conv3d(c, c, (3, 1, 1), padding=(1, 0, 0)),
            "norm": lambda: nn.GroupNorm(2, c),
            "attend": lambda: nn.Linear(c, 3 * c),
            "causal": lambda: nn.Linear(c, 3 * c),
            "tokens": lambda: nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 2 * c), nn.ReLU(), nn.Linear(2 * c, c)),
            "down": lambda: nn.Conv3d(c, c, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            "cat": lambda: nn.Conv3d(2 * c, c, 1),
            "shuffle": lambda: nn.Conv2d(4 * c, c, 1),
            "patches": lambda: nn.Conv2d(c, 4 * c, 2, stride=2),
        }
        self.names = layers
        self.layers = nn.ModuleList(makers.get(name, nn.Identity)() for name in layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, level, kept_level = x, 0, 0
        for name, layer in zip(self.names, self.layers, strict=True):
            if name == "down" and level > -2:
                x, level = layer(x), level - 1
            elif name == "up" and level < 1:
                x, level = F.interpolate(x, scale_factor=(1.0, 2.0, 2.0)), level + 1
            elif name == "skip" and level == kept_level:
                x, kept = x + kept, x
            elif name == "cat" and level == kept_level:
                x = layer(torch.cat([x, kept], 1))
            elif name not in ("down", "up", "skip", "cat"):
                x = getattr(self, name, lambda x, layer: layer(x))(x, layer)
            if name == "act":
                kept, kept_level = x, level
        return x

    def act(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return F.silu(x)

    def tokens(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return x + layer(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)

    def scale(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return x * x.mean((2, 3, 4), keepdim=True).sigmoid()

    def mean(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return x - x.flatten(2).mean(-1)[..., None, None, None]

    def pad(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return F.pad(x, (1, 1, 1, 1, 1, 0))[:, :, 1:, 1:-1, 1:-1]

    def attend(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        b, c, t, h, w = x.shape
        tokens = x.permute(0, 2, 3, 4, 1).reshape(b * t, h * w, c)
        q, k, v = layer(tokens).view(b * t, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, h, w, c)
        return x + mixed.permute(0, 4, 1, 2, 3)

    def causal(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        b, c, t, h, w = x.shape
        tokens = x.permute(0, 3, 4, 2, 1).reshape(b * h * w, t, c)
        q, k, v = layer(tokens).chunk(3, -1)
        mask = torch.full((t, t), float("-inf")).triu(1)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], mask)[:, 0]
        return x + mixed.reshape(b, h, w, t, c).permute(0, 4, 3, 1, 2)

    def rope(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        _, c, t, h, w = x.shape
        grid = torch.stack(torch.meshgrid(torch.arange(t), torch.arange(h), torch.arange(w), indexing="ij"))
        angles = grid.flatten(1).float().sum(0) / c
        return (x.flatten(2) * angles.cos()).unflatten(2, (t, h, w))

    def fold(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(b * t, c, h, w)
        return F.avg_pool2d(frames, 3, 1, 1).reshape(b, t, c, h, w).transpose(1, 2)

    def shuffle(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        b, c, t, h, w = x.shape
        frames = layer(F.pixel_unshuffle(x.transpose(1, 2).reshape(b * t, c, h, w), 2))
        return F.interpolate(frames, size=(h, w)).reshape(b, t, c, h, w).transpose(1, 2)

    def patches(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        b, c, t, h, w = x.shape
        tokens = layer(x.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        return tokens.reshape(b, t, h // 2, w // 2, c, 2, 2).permute(0, 4, 1, 2, 5, 3, 6).reshape(b, c, t, h, w)

    def chunk(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        left, right = x.chunk(2, -1)
        return torch.cat([right.relu(), left], -1)

    def first(self, x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        joined = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
        return joined[:, :, 1:-1] + joined[:, :, 2:]


SIZES = st.tuples(st.integers(2, 3), st.integers(2, 4), st.sampled_from([4, 8, 12]), st.sampled_from([4, 8, 16]))


@pytest.mark.models
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(NAMES), min_size=2, max_size=8), st.sampled_from([2, 4]), SIZES, SIZES)
def test_resizing_is_capturing_anew(
    layers: list[str], channels: int, old: tuple[int, ...], new: tuple[int, ...]
) -> None:
    model = Random(layers, channels).eval()
    generator = torch.Generator().manual_seed(1)
    before, after = (torch.rand((size[0], channels, *size[1:]), generator=generator) for size in (old, new))
    program = captured(model, before)
    (spec,) = program.signature.inputs
    assert_as_captured(resize(program, {spec.name: dict(zip((0, 2, 3, 4), new, strict=True))}), model, (after,))

"""Random graphs at random budgets: whatever the planner makes of them, the numbers stay.

In double precision: a norm of values that hardly vary enlarges rounding, so that in single precision some graphs are
further from exact numbers than the tolerance, sliced or not.
"""

from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from penstock.passes.analysis.axes import WholeError
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.forms import prepared
from penstock.passes.slicing.parts import choices
from penstock.passes.slicing.planner import Planner, Schedule
from penstock.passes.slicing.tiling import Tiling
from tests.passes.slicing.slices import assert_equal, captured, realized

LAYERS = st.sampled_from(
    [
        "conv",
        "wide",
        "time",
        "norm",
        "act",
        "attend",
        "tokens",
        "down",
        "up",
        "skip",
        "cat",
        "scale",
        "pool",
        "pad",
        "border",
        "mirror",
        "table",
        "causal",
        "behind",
    ]
)


class Layers(nn.Module):
    """Layers on [batch, channels, frames, height, width], as their names say."""

    def __init__(self, layers: list[str], channels: int) -> None:
        super().__init__()
        torch.manual_seed(len(layers) + channels)
        self.names = layers
        self.layers = nn.ModuleList(self._layer(name, channels) for name in layers)
        self.tables = nn.ParameterDict()  # one for each shape that comes by

    @staticmethod
    def _layer(name: str, c: int) -> nn.Module:
        return {
            "conv": lambda: nn.Conv3d(c, c, (1, 3, 3), padding=(0, 1, 1)),
            "wide": lambda: nn.Sequential(nn.Conv3d(c, 4 * c, 1), nn.GELU(), nn.Conv3d(4 * c, c, 1)),
            "time": lambda: nn.Conv3d(c, c, (3, 1, 1), padding=(1, 0, 0)),
            "border": lambda: nn.Conv3d(c, c, (3, 1, 1), padding=(1, 0, 0), padding_mode="replicate"),
            "mirror": lambda: nn.Conv3d(c, c, (1, 1, 3), padding=(0, 0, 1), padding_mode="reflect"),
            "norm": lambda: nn.GroupNorm(2, c),
            "attend": lambda: nn.Linear(c, 3 * c),
            "causal": lambda: nn.Linear(c, 3 * c),
            "behind": lambda: nn.Conv3d(c, c, (1, 3, 3), stride=(1, 2, 2)),
            "tokens": lambda: nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 2 * c), nn.ReLU(), nn.Linear(2 * c, c)),
            "down": lambda: nn.Conv3d(c, c, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            "cat": lambda: nn.Conv3d(2 * c, c, 1),
        }.get(name, nn.Identity)()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x
        for name, layer in zip(self.names, self.layers, strict=True):
            b, c, t, h, w = x.shape
            if name == "act":
                x = F.silu(x)
            elif name in ("attend", "causal"):
                tokens = x.permute(0, 2, 3, 4, 1).reshape(b * t, h * w, c)
                q, k, v = layer(tokens).view(b * t, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
                mixed = (
                    F.scaled_dot_product_attention(q, k, v, is_causal=name == "causal")
                    .transpose(1, 2)
                    .reshape(b, t, h, w, c)
                )
                x = x + mixed.permute(0, 4, 1, 2, 3)
            elif name == "tokens":
                x = x + layer(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
            elif name == "down":
                x = layer(x) if min(h, w) >= 4 else x
            elif name == "behind":
                x = layer(F.pad(x, (0, 1, 0, 1))) if min(h, w) >= 4 else x
            elif name == "up":
                x = F.interpolate(x, scale_factor=(1.0, 2.0, 2.0)) if max(h, w) <= 8 else x
            elif name == "skip":
                x, kept = (x + kept, x) if x.shape == kept.shape else (x, x)
            elif name == "cat":
                x = layer(torch.cat([x, kept], 1)) if x.shape == kept.shape else x
            elif name == "scale":
                x = x * x.mean((2, 3, 4), keepdim=True).sigmoid()
            elif name == "pool":
                x = x - F.avg_pool3d(x, (1, h, w))
            elif name == "table":
                key = f"{t}_{h}_{w}"
                if key not in self.tables:
                    self.tables[key] = nn.Parameter(torch.rand(1, 1, t, h, w).to(x.dtype))
                x = x * self.tables[key]
            elif name == "pad":
                x = F.pad(x, (1, 1, 1, 1, 1, 0))[:, :, 1:, 1:-1, 1:-1]
            else:
                x = layer(x)
        return x


def cut_otherwise(planner: Planner, schedule: Schedule, random: Random) -> Schedule:
    """The same groups in random numbers of parts, with halos kept or made again, where these can be."""

    def parts(tiling: Tiling) -> CutRecipe:
        count = random.choice(choices(tiling.size, tiling.unit, tiling.period)).count
        return CutRecipe(parts=count, keeps_halos=random.random() < 0.5)

    groups = []
    for group in schedule.groups:
        sweeps = [parts(sweep.tiling) for sweep in group.tiling.sweeps]
        run = group.start, group.stop
        try:
            groups.append(planner.groups.given(run, group.axis.dim, parts(group.tiling), sweeps, None))
        except WholeError:  # a part of padding only
            groups.append(group)
    return planner.scheduled(groups)


@pytest.mark.models
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(LAYERS, min_size=2, max_size=8),
    st.sampled_from([2, 4]),
    st.sampled_from([(1, 2, 4, 8), (2, 3, 6, 4), (1, 4, 8, 8), (1, 5, 7, 13), (1, 7, 11, 5)]),
    st.floats(0.15, 0.95),
    st.none() | st.randoms(use_true_random=False),
)
def test_numbers_stay(
    layers: list[str], channels: int, extents: tuple[int, ...], share: float, random: Random | None
) -> None:
    batch, *rest = extents
    example = torch.rand((batch, channels, *rest), generator=torch.Generator().manual_seed(1)).double()
    model = Layers(layers, channels).double()
    model(example)
    program = captured(model, example)
    planner = Planner(prepared(program.graphs["main"]))
    schedule = planner.plan(int(share * planner.unsliced_bytes))
    if schedule is None:  # a budget below the floor
        return
    if random is not None:
        schedule = cut_otherwise(planner, schedule, random)
    assert_equal(program, realized(program, planner, schedule), tolerance=1e-9)

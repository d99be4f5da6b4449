from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from penstock.passes.core.base import registered
from penstock.passes.core.context import Context
from penstock.passes.core.options import format_pass, parse_pass
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.legalize.complex_pairs import is_complex
from penstock.passes.legalize.door import DOOR
from penstock.passes.presets import CLEANUP, LEGALIZE, MOBILE, PRESETS, SINGLE_PRECISION


class VideoBlock(torch.nn.Module):
    """The operators of video models that back ends get wrong or lack, in one small network."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv3d(2, 8, 3, padding="same")
        self.batch = torch.nn.BatchNorm3d(8)
        self.up = torch.nn.ConvTranspose3d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.query = torch.nn.Linear(8, 8)
        self.norm = torch.nn.RMSNorm(4)
        self.register_buffer("rope", torch.polar(torch.ones(16, 2), torch.rand(16, 2)))

    def rotate(self, x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.rope).flatten(-2)

    def forward(self, video, tokens):
        x = F.group_norm(self.batch(self.down(video)), 2)
        x = F.max_pool3d(F.relu6(x), 2)
        rows = x.flatten(2).transpose(1, 2)
        heads = self.norm(self.query(rows).unflatten(-1, (2, 4)).transpose(1, 2))
        valid = (tokens > 0).cumsum(-1) > 1
        attended = F.scaled_dot_product_attention(self.rotate(heads), heads, heads, attn_mask=valid[:, None, None, :])
        best, place = rows.max(-1)
        places = (tokens % 4)[..., None].expand(-1, -1, 8)
        merged = torch.zeros(1, 4, 8).scatter_reduce(1, places, rows, "mean")
        grown = F.interpolate(self.up(x), scale_factor=(1, 2, 2))
        ramp = torch.cos(torch.arange(4)) * grown[:, -1, 0, 0, :4]
        return grown, attended, best + place, merged, ramp, F.pixel_unshuffle(x[:, :, -1], 2), rows.norm(dim=-1)


@pytest.fixture
def block(capture):
    tokens = torch.tensor([[0, 3, 5, 2, 7, 1, 0, 4, 9, 8, 6, 2, 3, 1, 5, 5]])
    args = (torch.randn(1, 2, 4, 8, 4), tokens)
    return capture(VideoBlock().eval(), args), args


def test_legalisation_leaves_only_operators_of_the_door(run_pass, block):
    program, args = block
    context = Context()
    _, after = run_pass(program, args, *LEGALIZE, context=context)
    nodes = list(after.graphs["main"].graph.nodes)
    assert [str(node.target) for node in nodes if node.op == "call_function" and node.target not in DOOR] == []
    assert not any(is_complex(node) for node in nodes)
    assert context.declined == []


def test_legalisation_after_cleanup(run_pass, block):
    program, args = block
    _, after = run_pass(program, args, *CLEANUP, *LEGALIZE, idempotent=False)
    assert after.signature == program.signature
    assert Pipeline(LEGALIZE).run(after) is after


def test_a_program_without_data_is_legalised_alike(capture, block):
    program, (video, tokens) = block
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = VideoBlock().eval()
        args = (torch.empty(video.shape), torch.empty(tokens.shape, dtype=torch.int64))
        empty = capture(model, args)
    assert empty.is_fake
    passes = (*SINGLE_PRECISION, *LEGALIZE)
    targets = [
        {node.target for node in Pipeline(passes).run(given).graphs["main"].graph.nodes if node.op == "call_function"}
        for given in (program, empty)
    ]
    assert targets[1] <= DOOR
    assert targets[0] <= targets[1]  # without data, nothing folds


def test_the_mobile_preset_leaves_no_type_that_phones_lack(run_pass):
    def model(x):
        angles = torch.arange(4, dtype=torch.float64) / 3
        return x * angles.cos().to(torch.bfloat16)

    _, after = run_pass(model, (torch.randn(2, 4, dtype=torch.bfloat16),), *MOBILE)
    dtypes = {node.meta["val"].dtype for node in after.graphs["main"].graph.nodes if node.op != "output"}
    assert dtypes == {torch.float32}


def test_presets_can_be_written_on_the_command_line():
    for passes in PRESETS.values():
        assert tuple(parse_pass(format_pass(current)) for current in passes) == passes


def test_every_legalisation_pass_has_its_place():
    used = {current.name() for current in SINGLE_PRECISION + LEGALIZE}
    ours = {name for name, kind in registered().items() if kind.__module__.startswith("penstock.passes.legalize.")}
    assert ours <= used

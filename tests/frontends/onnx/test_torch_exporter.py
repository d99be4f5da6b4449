"""What `torch.onnx.export` writes, in its opsets and with and without its optimiser, against the module itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from onnxruntime import InferenceSession
from torch import Tensor, nn

from penstock.frontends.onnx import capture_onnx
from penstock.passes.core import reference


class Vision(nn.Module):
    """Convolutions, pools, normalisations, up and down sampling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.batch_norm, self.group_norm = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
        self.frames = nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.group_norm(F.relu(self.batch_norm(self.stem(x)))))
        x = F.hardswish(self.depthwise(F.pad(x, (1, 0, 2, 1))))
        x = F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1)
        x = F.interpolate(self.up(x), scale_factor=2.0, mode="nearest")
        x = F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=False)
        x = self.frames(x.unsqueeze(2).repeat(1, 1, 3, 1, 1)).mean(2)
        return F.pixel_unshuffle(F.pad(x, (0, 1, 0, 1), mode="reflect"), 2).flatten(2).amax(-1)


class Language(nn.Module):
    """Embedding, rotary attention with a causal mask, RMS and layer norms, gated feed-forward, shape arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 16), nn.LayerNorm(16)
        self.rms = nn.RMSNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.gate, self.down = nn.Linear(16, 64), nn.Linear(32, 16)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        count = tokens.shape[1]
        q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        angles = torch.arange(count)[:, None] * 10.0 ** (-torch.arange(4) / 4)
        cos, sin = angles.cos(), angles.sin()
        q, k = (torch.cat([a * cos - b * sin, b * cos + a * sin], -1) for a, b in (q.chunk(2, -1), k.chunk(2, -1)))
        mask = torch.ones(count, count, dtype=torch.bool).tril()
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        a, b = self.gate(self.rms(x)).split(32, -1)
        x = x + self.down(F.gelu(a) * b)
        return torch.log_softmax(x @ self.embedding.weight.t(), -1)


class StateSpace(nn.Module):
    """Scans, softplus, einsum, slices written in place, flips, comparisons, searches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 6, 4, groups=6, padding=3)
        self.decay = nn.Parameter(torch.rand(6, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.silu(self.conv(x)[..., : x.shape[-1]])
        step = F.softplus(x.transpose(1, 2))
        states = torch.exp(-torch.einsum("bld,dn->bldn", step, self.decay).cumsum(1))
        y = torch.einsum("bldn,dn->bld", states, self.decay)
        y[:, ::2, 1:3] = y[:, 1::2, 2:4] * 2
        y = torch.where(y > y.mean(), y.flip(1) * 0.9, torch.clamp(y, -0.5, 50.0))
        _, order = torch.topk(y[..., 0], 3)
        return torch.gather(y, 1, order.unsqueeze(-1).expand(-1, -1, 6)), y.std(1) + y.prod(-1).sum(-1, keepdim=True)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "vision": (Vision, lambda: torch.randn(2, 3, 16, 20)),
    "language": (Language, lambda: torch.randint(0, 11, (2, 7))),
    "state-space": (StateSpace, lambda: torch.randn(2, 6, 8)),
}


@pytest.mark.parametrize(
    ("net", "opset", "optimize"),
    [
        ("vision", 18, True),
        ("vision", 23, True),
        ("language", 20, False),
        ("language", 23, True),
        ("state-space", 18, True),
        ("state-space", 20, False),
    ],
)
def test_a_captured_export_computes_what_the_module_does(net: str, opset: int, optimize: bool) -> None:
    torch.manual_seed(0)
    build, make = NETS[net]
    model, x = build().eval(), make()
    exported = torch.onnx.export(model, (x,), dynamo=True, opset_version=opset, optimize=optimize, verbose=False)
    assert exported is not None
    program = capture_onnx(exported.model_proto, (x,))
    with torch.no_grad():
        expected = model(x)
    results = reference.run(program, (x,))
    session = InferenceSession(exported.model_proto.SerializeToString())
    elsewhere = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = expected if isinstance(expected, tuple) else (expected,)
    for result, wanted, other in zip(results, expected, elsewhere, strict=True):
        torch.testing.assert_close(result, wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(result, torch.from_numpy(other), rtol=1e-5, atol=1e-5)

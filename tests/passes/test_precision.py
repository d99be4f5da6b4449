from __future__ import annotations

import pytest
import torch
from torch import nn

from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference
from penstock.passes.core.context import Context
from penstock.passes.core.instruments import Verify
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.precision import HalfPrecision


class Denoiser(nn.Module):
    """A convolution and an attention, shifted by a sinusoidal timestep embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.time = nn.Linear(32, 16)
        self.register_buffer("frequency", torch.logspace(0, -4, 16))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        angle = timestep[:, None] * self.frequency
        embedding = self.time(torch.cat([angle.cos(), angle.sin()], -1))
        x = nn.functional.silu(self.norm(self.conv(x)) + embedding[:, :, None, None])
        tokens = x.flatten(2).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


def denoiser(timestep: float = 999.0) -> Program:
    torch.manual_seed(0)
    return capture_module(Denoiser(), (torch.randn(1, 4, 8, 8), torch.tensor([timestep])))


def converted(program: Program) -> tuple[Program, float]:
    verify = Verify()
    after = Pipeline((HalfPrecision(),), (verify,)).run(program)
    (loss,) = verify.losses["half-precision"]
    return after, loss.max_error / loss.scale


def test_storage_is_half_and_the_loss_is_small() -> None:
    program = denoiser()
    after, loss = converted(program)
    assert 0 < loss < 5e-3
    assert after.signature.outputs[0].dtype == torch.float16
    assert after.weights["conv.weight"].dtype == torch.float16
    assert after.weight_bytes < 0.6 * program.weight_bytes


def test_what_sine_and_cosine_are_computed_from_stays_single() -> None:
    after, _ = converted(denoiser())
    x, timestep = after.signature.inputs
    assert (x.dtype, timestep.dtype) == (torch.float16, torch.float32)
    assert after.weights["frequency"].dtype == torch.float32
    # 999 · 0.7 in float16 is off by up to 0.25 radians; an embedding that is off by that much would show.
    inputs = [tensor.to(spec.dtype) for tensor, spec in zip(denoiser().examples, after.signature.inputs, strict=True)]
    single = reference.run(denoiser(), denoiser().examples)[0]
    assert (reference.run(after, inputs)[0].float() - single).abs().max() < 5e-3


def test_a_half_program_comes_back_as_it_is() -> None:
    after, _ = converted(denoiser())
    assert HalfPrecision().run(after, Context()) is after
    half = capture_module(nn.Linear(4, 4).half(), (torch.randn(2, 4).half(),))
    assert HalfPrecision().run(half, Context()) is half


def test_numbers_beyond_half_become_its_largest() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
            return torch.softmax(x.masked_fill(keep, -1e9), -1)

    program = capture_module(Masked(), (torch.randn(3, 5), torch.rand(3, 5) < 0.5))
    after, loss = converted(program)
    assert loss < 1e-3
    assert reference.run(after, after.examples)[0].isfinite().all()


@pytest.mark.parametrize("epsilon", [1e-15, 1e-12])
def test_an_epsilon_that_half_cannot_hold_is_added_in_single(epsilon: float) -> None:
    class Normalised(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.relu()
            return x / (x[:, :1] * 0 + epsilon)

    after, _ = converted(capture_module(Normalised(), (torch.zeros(2, 4),)))
    assert reference.run(after, after.examples)[0].isfinite().all()


def test_a_sum_that_is_divided_by_is_as_exact_as_its_epsilon() -> None:
    class LinearAttention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            summed = torch.matmul(q, torch.matmul(k.transpose(-1, -2), nn.functional.pad(v, (0, 1), value=1.0)))
            return summed[..., :-1] / (summed[..., -1:] + 1e-15)

    torch.manual_seed(0)
    q, k = (1e-3 * torch.rand(8, 4) for _ in range(2))  # weights of about 1e-5, sums of 1e-8
    q[0] *= 1e-2
    after, loss = converted(capture_module(LinearAttention(), (q, k, torch.randn(8, 4))))
    assert reference.run(after, after.examples)[0].isfinite().all()
    assert loss < 1e-2


def test_weights_out_of_range_are_clipped_and_infinities_kept() -> None:
    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.tensor([1e9, -1e9, torch.inf, 1.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.silu(x) * self.shift

    after = HalfPrecision().run(capture_module(Shift(), (torch.randn(4),)), Context())
    assert after.weights["shift"].tolist() == [65504.0, -65504.0, torch.inf, 1.0]


def test_integers_and_shared_weights_stay() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(8, 4)
            self.head = nn.Linear(4, 8, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.table(tokens))

    program = capture_module(Tied(), (torch.tensor([[1, 2, 3]]),))
    after, _ = converted(program)
    assert after.signature.inputs[0].dtype == torch.int64
    assert after.weight_bytes == program.weight_bytes // 2

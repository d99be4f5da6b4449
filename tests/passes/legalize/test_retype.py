from __future__ import annotations

import pytest
import torch

from penstock.passes.core import dialect, reference
from penstock.passes.core.errors import UsageError
from penstock.passes.core.instruments import Verify
from penstock.passes.core.options import parse_pass
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.legalize.bfloat16 import Bfloat16ToFloat32
from penstock.passes.legalize.float64 import Float64ToFloat32


class Tied(torch.nn.Module):
    """Two names of one weight, a dtype argument, and a number that float16 cannot hold."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8, bias=False)
        self.second = torch.nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        x = self.second(self.first(x)).float().to(torch.bfloat16)
        return x.masked_fill(x > 0, -3e38)


def tied(run_pass, to):
    model = Tied().to(torch.bfloat16)
    return run_pass(model, (torch.randn(2, 8, dtype=torch.bfloat16),), Bfloat16ToFloat32(to))


def test_bfloat16_becomes_float32_at_the_border_too(run_pass, assert_listing):
    before, after = run_pass(
        lambda x, w: torch.nn.functional.linear(x, w).to(torch.bfloat16),
        (torch.randn(2, 8, dtype=torch.bfloat16), torch.randn(8, 8, dtype=torch.bfloat16)),
        Bfloat16ToFloat32(),
    )
    assert_listing(
        after,
        """graph main
        in   x                      f32[2, 8]
        in   w                      f32[8, 8]
        linear = linear(x, w)       f32[2, 8]
        return (linear)
        """,
    )
    assert [spec.dtype for spec in (*after.signature.inputs, *after.signature.outputs)] == [torch.float32] * 3
    assert [example.dtype for example in after.examples] == [torch.float32] * 2
    assert [spec.dtype for spec in before.signature.inputs] == [torch.bfloat16] * 2


def test_results_are_those_of_the_model_in_float32(run_pass):
    _, after = tied(run_pass, "float32")
    dialect.check(after, "the test")
    x = torch.randn(2, 8, dtype=torch.bfloat16)
    wide = Tied()
    wide.first.weight = torch.nn.Parameter(next(iter(after.weights.values())))
    wide.second.weight = wide.first.weight
    hidden = wide.second(wide.first(x.float()))
    expected = hidden.masked_fill(hidden > 0, -3e38)
    torch.testing.assert_close(reference.run(after, (x.float(),))[0], expected.detach())


def test_a_weight_of_two_names_stays_one_parameter(run_pass):
    before, after = tied(run_pass, "float32")
    weights = list(after.weights.values())
    assert len(weights) == len(before.weights)
    assert len({id(weight) for weight in weights}) == 1
    assert isinstance(weights[0], torch.nn.Parameter)
    assert weights[0].dtype == torch.float32


def test_float16_keeps_finite_numbers_finite(run_pass):
    _, after = tied(run_pass, "float16")
    (output,) = reference.run(after, after.examples)
    assert output.dtype == torch.float16
    assert bool(torch.isfinite(output).all())
    assert float(output.min()) == -65504


class Large(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1e6, float("-inf"), 0.5], dtype=torch.bfloat16))

    def forward(self, x):
        return x + self.scale


def test_float16_weights_saturate_and_keep_infinity(run_pass):
    _, after = run_pass(Large(), (torch.zeros(3, dtype=torch.bfloat16),), Bfloat16ToFloat32("float16"))
    assert after.weights["scale"].tolist() == [65504.0, float("-inf"), 0.5]


def test_double_precision_becomes_single(run_pass, assert_listing):
    def model(x):
        angles = torch.arange(4, dtype=torch.float64) * 0.5
        return x * angles.cos()

    _, after = run_pass(model, (torch.randn(4),), Float64ToFloat32())
    assert_listing(
        after,
        """graph main
        in   x                              f32[4]
        arange = arange.start_step(0, 4, dtype=float32, layout=strided, device=cpu, pin_memory=False)   f32[4]
        mul = mul(arange, 0.5)              f32[4]
        cos = cos(mul)                      f32[4]
        mul_1 = mul(x, cos)                 f32[4]
        return (mul_1)
        """,
    )
    assert after.signature.outputs[0].dtype == torch.float32


def test_the_loss_is_measured(capture):
    program = capture(torch.nn.Linear(4, 4).double(), (torch.randn(2, 4, dtype=torch.float64),))
    verify = Verify()
    Pipeline((Float64ToFloat32(),), (verify,)).run(program)
    (difference,) = verify.losses["float64-to-float32"]
    assert 0 < difference.max_error < 1e-6


@pytest.mark.parametrize("current", [Bfloat16ToFloat32(), Bfloat16ToFloat32("float16"), Float64ToFloat32()])
def test_a_program_without_such_values_stays(run_pass, current):
    before, after = run_pass(lambda x: x.long() + 1, (torch.randn(3),), current)
    assert after is before


def test_the_option_is_checked():
    assert parse_pass("bfloat16-to-float32:to=float16") == Bfloat16ToFloat32("float16")
    with pytest.raises(UsageError, match=r"option 'to'.*'float64'"):
        parse_pass("bfloat16-to-float32:to=float64")

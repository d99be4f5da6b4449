from __future__ import annotations

import dataclasses

import pytest
import torch

from penstock.passes.core.context import Context
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Call, Phase, Plan
from penstock.passes.legalize.complex_pairs import is_complex
from penstock.passes.legalize.real_rope import RealRope


class Rotate(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("rope", torch.polar(torch.ones(6, 4), torch.rand(6, 4)))

    def forward(self, x):
        return torch.view_as_real(torch.view_as_complex(x) * self.rope)


def test_a_rotation_by_complex_weights(run_pass, assert_listing):
    _, after = run_pass(Rotate(), (torch.randn(2, 6, 4, 2),), RealRope())
    assert_listing(
        after,
        """graph main
        w    rope_pairs                                 f32[6, 4, 2]
        in   x                                          f32[2, 6, 4, 2]
        mul_select = select.int(x, 3, 0)                f32[2, 6, 4]
        mul_select_1 = select.int(x, 3, 1)              f32[2, 6, 4]
        mul_select_2 = select.int(rope_pairs, 2, 0)     f32[6, 4]
        mul_select_3 = select.int(rope_pairs, 2, 1)     f32[6, 4]
        mul_mul = mul(mul_select, mul_select_2)         f32[2, 6, 4]
        mul_mul_1 = mul(mul_select_1, mul_select_3)     f32[2, 6, 4]
        mul_sub = sub(mul_mul, mul_mul_1)               f32[2, 6, 4]
        mul_mul_2 = mul(mul_select, mul_select_3)       f32[2, 6, 4]
        mul_mul_3 = mul(mul_select_1, mul_select_2)     f32[2, 6, 4]
        mul_add = add(mul_mul_2, mul_mul_3)             f32[2, 6, 4]
        view_as_real = stack([mul_sub, mul_add], 3)     f32[2, 6, 4, 2]
        return (view_as_real)
        """,
    )


def real(*values):
    return [torch.view_as_real(value) for value in values]


def arithmetic(x, r):
    z, w, p = torch.view_as_complex(x), torch.complex(r, r + 1), torch.polar(r.abs(), r)
    double = torch.tensor(2.0, dtype=torch.float64)
    return (
        *real(z * w + p - r, (z / w).conj() * 2 - 1 + 2j, 1 / w + z / 4, z / r, double * z, -z, z.exp()),
        *real(torch.where(r > 0, z, w), r.to(torch.complex64) * z, z.to(torch.complex128), z * (1 + 2j)),
        (z * z).abs(),
        z.angle(),
        (z * w).real + (z / w).imag,
    )


def layout(x, r):
    z = torch.view_as_complex(x)
    first, second = z.chunk(2, -1)
    return real(
        torch.cat([z, z * 2], -1).permute(1, 0, 2)[:, :1],
        torch.stack([z, -z], -1).reshape(2, 6, 8),
        first * second.unsqueeze(0),
        z.repeat(1, 2, 1)[:, None].expand(2, 3, 12, 4),
        z.transpose(0, -1).flip(1).clone(),
        z.unbind(-1)[2].squeeze(-1),
        z[:, [1, 0]].roll(1, -1),
        z.sum(-1, keepdim=True) + z.mean(1, keepdim=True),
        z.sum(),
        z[0].select(-1, -2).split([2, 4])[1],
    )


@pytest.mark.parametrize("model", [arithmetic, layout])
def test_no_complex_value_is_left(run_pass, model):
    _, after = run_pass(model, (torch.randn(2, 6, 4, 2), torch.randn(6, 4)), RealRope())
    assert not any(is_complex(node) for node in after.graphs["main"].graph.nodes)


def test_two_graphs_share_the_converted_weight(capture):
    program = capture(Rotate(), (torch.randn(2, 6, 4, 2),))
    steps = ((Call("main", ("x",), ("y",)),), (Call("again", ("y",), ("output",)),))
    twice = dataclasses.replace(program.with_graphs(again=program.graphs["main"]), plan=Plan((Phase("main", steps),)))
    after = Pipeline((RealRope(),)).run(twice)
    tensors = [graph.rope_pairs for graph in after.graphs.values()]
    assert tensors[0] is tensors[1]


@pytest.mark.parametrize(
    ("model", "x", "reason"),
    [
        (
            lambda x: torch.fft.fft(x).abs(),
            torch.randn(4),
            "aten._fft_r2c.default has no form on pairs of reals",
        ),
        (
            lambda x: torch.view_as_complex(x) * 2,
            torch.randn(4, 2),
            "the graph returns complex numbers; return torch.view_as_real of them",
        ),
        (
            lambda x: x.abs(),
            torch.randn(4, dtype=torch.complex64),
            "the graph takes complex numbers; pass their real and imaginary parts as one real tensor",
        ),
    ],
)
def test_refusals(run_pass, model, x, reason):
    context = Context()
    before, after = run_pass(model, (x,), RealRope(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == [reason]


def test_a_real_graph_stays(run_pass):
    before, after = run_pass(lambda x: x * 2, (torch.randn(3),), RealRope())
    assert after is before

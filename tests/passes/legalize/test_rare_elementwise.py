from __future__ import annotations

import math

import pytest
import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.rare_elementwise import RareElementwise

NUMBERS = torch.tensor([0.0, -0.0, 1.5, -2.5, 1e30, -1e-30, math.inf, -math.inf])
PAIRS = torch.cartesian_prod(NUMBERS, NUMBERS).T


def test_a_formula_stands_in_its_place(run_pass, assert_listing):
    _, after = run_pass(lambda x: torch.log10(x), (torch.rand(2, 4),), RareElementwise())
    assert_listing(
        after,
        """graph main
        in   x                                              f32[2, 4]
        log10_log = log(x)                                  f32[2, 4]
        log10 = mul.Scalar(log10_log, 0.43429448190325176)  f32[2, 4]
        return (log10)
        """,
    )


@pytest.mark.parametrize("function", [torch.hypot, torch.copysign, torch.fmax, torch.fmin])
def test_pairs_with_zeros_and_infinities(run_pass, op_names, function):
    _, after = run_pass(lambda x, y: 1 / function(x, y), (PAIRS[0], PAIRS[1]), RareElementwise())
    assert function.__name__ not in op_names(after)


def test_the_sign_of_any_number(run_pass, op_names):
    _, after = run_pass(lambda x: torch.signbit(x), (NUMBERS,), RareElementwise())
    assert "signbit" not in op_names(after)


@pytest.mark.parametrize("function", [torch.fmax, torch.fmin])
def test_the_number_beside_a_nan(run_pass, function):
    nan = torch.tensor([math.nan, 1.0, math.nan])
    run_pass(lambda x, y: function(x, y), (nan, torch.tensor([2.0, math.nan, math.nan])), RareElementwise())


def test_integers_are_refused(run_pass):
    context = Context()
    before, after = run_pass(lambda x: torch.log10(x), (torch.tensor([1, 2]),), RareElementwise(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == ["its operands are integers"]

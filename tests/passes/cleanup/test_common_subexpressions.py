from __future__ import annotations

import torch

from penstock.passes.cleanup.common_subexpressions import CommonSubexpressions


def test_equal_operators_are_merged_through_their_arguments(run_pass, assert_listing):
    _, after = run_pass(lambda x: x.cos().sin() + x.cos().sin(), (torch.randn(4),), CommonSubexpressions())
    assert_listing(
        after,
        (
            "graph main\n"
            "  in   x         f32[4]\n"
            "  cos = cos(x)   f32[4]\n"
            "  sin = sin(cos)      f32[4]\n"
            "  add = add(sin, sin)  f32[4]\n"
            "  return (add)\n"
        ),
    )


def test_tuples_are_merged(run_pass, op_names):
    _, after = run_pass(
        lambda x: x.chunk(2)[0] + x.chunk(2)[1] + x.chunk(2)[0], (torch.randn(4),), CommonSubexpressions()
    )
    names = op_names(after)
    assert len([name for name in names if name not in ("add", "getitem")]) == 1
    assert names.count("getitem") == 2


def test_numbers_of_other_types_differ(run_pass):
    before, after = run_pass(
        lambda x: (torch.full((2,), 1), torch.full((2,), 1.0), torch.full((2,), True), x + 1),
        (torch.randn(2),),
        CommonSubexpressions(),
    )
    assert after is before


def test_random_operators_are_not_merged(capture):
    from penstock.passes.core.context import Context

    program = capture(lambda x: x + torch.rand_like(x) - torch.rand_like(x), (torch.randn(4),))
    assert CommonSubexpressions().run(program, Context()) is program

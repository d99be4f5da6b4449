from __future__ import annotations

import pytest
import torch

from penstock.passes.legalize.select_before_permute import SelectBeforePermute


def test_one_of_a_pack(run_pass, assert_listing):
    _, after = run_pass(lambda x: x.permute(2, 0, 1).select(0, 1), (torch.randn(4, 8, 3),), SelectBeforePermute())
    assert_listing(
        after,
        """graph main
        in   x                                   f32[4, 8, 3]
        select_select = select.int(x, 2, 1)      f32[4, 8]
        select = permute(select_select, [0, 1])  f32[4, 8]
        return (select)
        """,
    )


@pytest.mark.parametrize("dim", [0, 2, -1])
@pytest.mark.parametrize("order", [(2, 0, 3, 1, 4), (-2, 4, 0, 1, -3)])
def test_all_of_a_pack(run_pass, op_names, dim, order):
    _, after = run_pass(lambda x: x.permute(order).unbind(dim), (torch.randn(2, 3, 4, 5, 6),), SelectBeforePermute())
    assert "unbind.int" not in op_names(after)
    assert "select.int" in op_names(after)


def test_a_select_of_something_else_stays(run_pass):
    before, after = run_pass(lambda x: x.exp().select(0, 1), (torch.randn(4, 8),), SelectBeforePermute())
    assert after is before

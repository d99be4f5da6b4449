from __future__ import annotations

import pytest
import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.diagonal import DiagonalToSlice


def test_a_slice_of_the_matrix_as_one_line(run_pass, assert_listing):
    _, after = run_pass(lambda x: torch.diagonal(x, 1), (torch.randn(3, 4),), DiagonalToSlice())
    assert_listing(
        after,
        """graph main
        in   x                                           f32[3, 4]
        diagonal_reshape = reshape(x, [12])              f32[12]
        diagonal = slice(diagonal_reshape, 0, 1, 12, 5)  f32[3]
        return (diagonal)
        """,
    )


@pytest.mark.parametrize("offset", [-3, -2, 0, 2, 3])
@pytest.mark.parametrize("dims", [(0, 1), (2, 0), (-1, -2)])
def test_any_diagonal_of_any_matrix(run_pass, op_names, offset, dims):
    _, after = run_pass(lambda x: torch.diagonal(x, offset, *dims), (torch.randn(4, 5, 6),), DiagonalToSlice())
    assert "diagonal" not in op_names(after)


def test_no_elements_are_refused(run_pass):
    context = Context()
    before, after = run_pass(lambda x: torch.diagonal(x, 4), (torch.randn(3, 4),), DiagonalToSlice(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == ["the diagonal has no elements"]

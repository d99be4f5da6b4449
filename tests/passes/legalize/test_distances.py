from __future__ import annotations

import math

import pytest
import torch

from penstock.passes.legalize.distances import DistancesToNorms


def test_the_norm_of_every_difference(run_pass, assert_listing):
    _, after = run_pass(lambda x, y: torch.cdist(x, y), (torch.randn(3, 8), torch.randn(4, 8)), DistancesToNorms())
    assert_listing(
        after,
        """graph main
        in   x                                                                          f32[3, 8]
        in   y                                                                          f32[4, 8]
        _cdist_forward_unsqueeze = unsqueeze(x, -2)                                     f32[3, 1, 8]
        _cdist_forward_unsqueeze_1 = unsqueeze(y, -3)                                   f32[1, 4, 8]
        _cdist_forward_sub = sub(_cdist_forward_unsqueeze, _cdist_forward_unsqueeze_1)  f32[3, 4, 8]
        _cdist_forward = linalg_vector_norm(_cdist_forward_sub, 2.0, [-1])              f32[3, 4]
        return (_cdist_forward)
        """,
    )


@pytest.mark.parametrize("order", [0.0, 1.0, 2.0, 3.5, math.inf])
def test_orders_and_batches(run_pass, op_names, order):
    def model(x, y):
        return torch.cdist(x, y, p=order)

    _, after = run_pass(model, (torch.randn(2, 1, 3, 5), torch.randn(4, 7, 5)), DistancesToNorms())
    assert "_cdist_forward" not in op_names(after)

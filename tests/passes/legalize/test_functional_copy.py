from __future__ import annotations

import torch

from penstock.passes.legalize.functional_copy import FunctionalCopy

aten = torch.ops.aten


def test_the_source_is_cast_and_expanded(run_pass, assert_listing):
    _, after = run_pass(lambda x, y: aten.copy(x, y), (torch.randn(2, 4), torch.randn(4).half()), FunctionalCopy())
    assert_listing(
        after,
        """graph main
        in   x                                      f32[2, 4]
        in   y                                      f16[4]
        copy_to_copy = _to_copy(y, dtype=float32)   f32[4]
        copy = expand(copy_to_copy, [2, 4])         f32[2, 4]
        return (copy)
        """,
    )


def test_assignment_to_a_slice(run_pass, op_names):
    def model(x, value):
        y = x.clone()
        y[:, 1:3] = value
        return y

    _, after = run_pass(model, (torch.randn(2, 4), torch.randn(2)), FunctionalCopy())
    assert "copy" not in op_names(after)
    assert "slice_scatter" in op_names(after)


def test_a_graph_without_one_stays(run_pass):
    before, after = run_pass(lambda x: x.clone(), (torch.randn(2, 3),), FunctionalCopy())
    assert after is before

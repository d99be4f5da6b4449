from __future__ import annotations

import torch

from penstock.passes.legalize.non_negative_index_tensors import NonNegativeIndexTensors


def test_each_index_is_taken_modulo_its_extent(run_pass, assert_listing):
    i, j = torch.tensor([0, -1, 2]), torch.tensor([-5, 1, -2])
    _, after = run_pass(lambda x, i, j: (x[i, j], x[:, i]), (torch.randn(4, 5), i, j), NonNegativeIndexTensors())
    assert_listing(
        after,
        """graph main
        in   x                                                       f32[4, 5]
        in   i                                                       i64[3]
        in   j                                                       i64[3]
        index_remainder = remainder.Scalar(i, 4)                     i64[3]
        index_remainder_1 = remainder.Scalar(j, 5)                   i64[3]
        index = index(x, [index_remainder, index_remainder_1])       f32[3]
        index_1_remainder = remainder.Scalar(i, 5)                   i64[3]
        index_1 = index(x, [None, index_1_remainder])                f32[4, 3]
        return (index, index_1)
        """,
    )


def test_index_put_writes_at_the_same_places(run_pass, op_names):
    def model(x, i, v):
        return torch.index_put(x, [i], v)

    i = torch.tensor([-1, 0])
    _, after = run_pass(model, (torch.randn(4, 5), i, torch.randn(2, 5)), NonNegativeIndexTensors())
    assert op_names(after) == ["remainder.Scalar", "index_put"]


class Lookup(torch.nn.Module):
    def __init__(self, *places):
        super().__init__()
        self.register_buffer("places", torch.tensor(places))

    def forward(self, x):
        return torch.ops.aten.index.Tensor(x, [self.places])


def test_a_constant_without_negative_entries_stays(run_pass):
    before, after = run_pass(Lookup(0, 2), (torch.randn(4),), NonNegativeIndexTensors())
    assert after is before


def test_a_constant_with_negative_entries_does_not(run_pass, op_names):
    _, after = run_pass(Lookup(0, -2), (torch.randn(4),), NonNegativeIndexTensors())
    assert op_names(after) == ["remainder.Scalar", "index"]


def test_a_boolean_mask_stays(run_pass):
    def model(x, mask):
        return torch.index_put(x, [mask], torch.zeros(()))

    before, after = run_pass(model, (torch.randn(4), torch.rand(4) > 0.5), NonNegativeIndexTensors())
    assert after is before

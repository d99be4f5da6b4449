from __future__ import annotations

import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.masked_index_put import MaskedIndexPut


def put(x, mask, value):
    return torch.index_put(x, [mask], value)


def test_one_value_is_a_choice(run_pass, assert_listing):
    args = (torch.randn(3, 5), torch.tensor([True, False, True]), torch.tensor(2.0))
    _, after = run_pass(put, args, MaskedIndexPut())
    assert_listing(
        after,
        """graph main
        in   x                                              f32[3, 5]
        in   mask                                           bool[3]
        in   value                                          f32[]
        index_put_view = view(mask, [3, 1])                 bool[3, 1]
        index_put = where.self(index_put_view, value, x)    f32[3, 5]
        return (index_put)
        """,
    )


def test_a_row_for_all_true_rows(run_pass, op_names):
    def model(x, mask, row):
        return [put(x, mask, row.reshape(shape)) for shape in ((5,), (1, 5))] + [
            put(x, mask, row[:1].reshape(shape)) for shape in ((1,), (1, 1))
        ]

    _, after = run_pass(model, (torch.randn(3, 5), torch.tensor([True, False, True]), torch.randn(5)), MaskedIndexPut())
    assert "index_put" not in op_names(after)


def test_a_mask_over_all_dimensions(run_pass, op_names):
    x = torch.randn(3, 5)
    _, after = run_pass(put, (x, x > 0, torch.tensor(0.0)), MaskedIndexPut())
    assert op_names(after) == ["where.self"]


def test_refusals(run_pass):
    def model(x, mask, value):
        return (
            put(x, mask, value),
            torch.index_put(x, [mask], value[0], True),
            x.index_put([mask, mask[:2] * 1], value[0, 0]),
        )

    context = Context()
    args = (torch.randn(3, 5), torch.tensor([True, False, True]), torch.randn(2, 5))
    before, after = run_pass(model, args, MaskedIndexPut(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == [
        "the values (2, 5) are one for each true element, whose number is not fixed",
        "it adds at the places of a boolean mask",
        "a boolean mask stands beside other indices",
    ]


def test_integer_indices_stay(run_pass):
    before, after = run_pass(put, (torch.randn(3), torch.tensor([0, 2]), torch.randn(2)), MaskedIndexPut())
    assert after is before

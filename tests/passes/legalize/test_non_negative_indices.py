from __future__ import annotations

import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.non_negative_indices import NonNegativeIndices


def test_indices_slices_and_dimensions_count_from_the_front(run_pass, assert_listing):
    def model(x):
        return x.select(-2, -1), x[:, :, -3:], x[:, -9:-2], x.sum(-1), x.unsqueeze(-1).permute(0, -1, 2, 1)

    _, after = run_pass(model, (torch.randn(2, 3, 4),), NonNegativeIndices())
    assert_listing(
        after,
        """graph main
        in   x                                      f32[2, 3, 4]
        select = select.int(x, 1, 2)                f32[2, 4]
        slice_1 = slice(x, 2, 1, 4)                 f32[2, 3, 3]
        slice_2 = slice(x, 1, 0, 1)                 f32[2, 1, 4]
        sum_1 = sum.dim_IntList(x, [2])             f32[2, 3]
        unsqueeze = unsqueeze(x, 3)                 f32[2, 3, 4, 1]
        permute = permute(unsqueeze, [0, 3, 2, 1])  f32[2, 1, 4, 3]
        return (select, slice_1, slice_2, sum_1, permute)
        """,
    )


def test_every_operator_reads_the_same_elements(run_pass):
    def model(x):
        return (
            x.softmax(-1),
            torch.cat([x, x], -2),
            x.flip(-1),
            x.amax((-1, -2)),
            x.argmax(-1),
            x.cumsum(-1),
            x.chunk(2, -1),
            x.unbind(-1),
            x.topk(2, -1),
            torch.slice_scatter(x, x[..., :2] * 2, -1, -2, 99),
            torch.select_scatter(x, x[..., 0] * 2, -1, -1),
            x.gather(-1, torch.zeros(2, 3, 1, dtype=torch.int64)),
            x[..., 3:1],
        )

    _, after = run_pass(model, (torch.randn(2, 3, 4),), NonNegativeIndices(), tolerance=1e-12)
    for node in after.graphs["main"].graph.nodes:
        numbers = [value for value in node.args if isinstance(value, int)]
        assert all(number >= 0 for number in numbers), node.format_node()


def test_a_slice_that_crosses_itself_is_empty(run_pass, assert_listing):
    _, after = run_pass(lambda x: x[3:-3], (torch.randn(4),), NonNegativeIndices())
    assert_listing(
        after,
        """graph main
        in   x                      f32[4]
        slice_1 = slice(x, 0, 3, 3) f32[0]
        return (slice_1)
        """,
    )


def test_what_counts_from_the_front_already_stays(run_pass):
    context = Context()
    before, after = run_pass(lambda x: x[:, 1:3].sum(1), (torch.randn(2, 4),), NonNegativeIndices(), context=context)
    assert after is before
    assert context.declined == []

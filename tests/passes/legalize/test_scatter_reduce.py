from __future__ import annotations

import pytest
import torch

from penstock.passes.core.context import Context
from penstock.passes.legalize.scatter_reduce import ScatterReduceToMatmul

INDEX = torch.tensor([[0, 1, 1], [4, 4, 0]])


def test_a_sum_over_an_expanded_index_is_one_product(run_pass, assert_listing):
    def model(x, index, source):
        return x.scatter_reduce(1, index.expand(2, 3, 8), source, "sum")

    args = (torch.randn(2, 5, 8), INDEX.unsqueeze(2), torch.randn(2, 3, 8))
    _, after = run_pass(model, args, ScatterReduceToMatmul())
    name = "scatter_reduce"
    assert_listing(
        after,
        f"""graph main
        in   x                                              f32[2, 5, 8]
        in   index                                          i64[2, 3, 1]
        in   source                                         f32[2, 3, 8]
        {name}_transpose = transpose.int(index, 1, 2)       i64[2, 1, 3]
        {name}_arange = arange.start_step(0, 5, dtype=int64)    i64[5]
        {name}_view = view({name}_arange, [5, 1])           i64[5, 1]
        {name}_eq = eq({name}_transpose, {name}_view)       bool[2, 5, 3]
        {name}_to_copy = _to_copy({name}_eq, dtype=float32) f32[2, 5, 3]
        {name}_matmul = matmul({name}_to_copy, source)      f32[2, 5, 8]
        {name} = add(x, {name}_matmul)                      f32[2, 5, 8]
        return ({name})
        """,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("include_self", [False, True])
def test_every_reduction_in_every_arrangement(run_pass, op_names, dtype, include_self):
    def model(x, source, index):
        found = []
        for reduction in ("sum", "mean", "amax", "amin", "prod"):
            end = (reduction,)
            same = {"include_self": include_self}
            found += [
                x.scatter_reduce(1, index[..., None].expand(2, 3, 8), source, *end, **same),
                x[:, :, 0].scatter_reduce(-1, index, source[:, :, 0], *end, **same),
                x[0, :, :3].scatter_reduce(0, index, source[:, :, 0], *end, **same),
                x[0].scatter_reduce(-2, index[0, :, None].expand(3, 8), source[0], *end, **same),
                x[0].T.scatter_reduce(1, index[:1].expand(8, 3), source[0].T, *end, **same),
            ]
        return found

    x, source = (torch.randn(2, 5, 8) * 3).to(dtype), (torch.randn(2, 3, 8) * 3).to(dtype)
    _, after = run_pass(model, (x, source, INDEX), ScatterReduceToMatmul())
    assert "scatter_reduce.two" not in op_names(after)


def test_a_source_larger_than_the_index_is_cut(run_pass):
    def model(x, index, source):
        return x.scatter_reduce(1, index, source, "amax")

    run_pass(model, (torch.randn(2, 5), INDEX, torch.randn(3, 4)), ScatterReduceToMatmul())


def test_refusals(run_pass):
    def model(x, index, source, scalar):
        place = torch.zeros((), dtype=torch.int64)
        return x.scatter_reduce(1, index, source, "sum"), scalar.scatter_reduce(0, place, scalar, "sum")

    context = Context()
    args = (torch.randn(3, 5), INDEX, torch.randn(2, 3), torch.tensor(1.0))
    before, after = run_pass(model, args, ScatterReduceToMatmul(), context=context)
    assert after is before
    assert [declined.reason for declined in context.declined] == [
        "the index covers 2 of 3 elements of dimension 0",
        "the tensor has no dimension to scatter along",
    ]

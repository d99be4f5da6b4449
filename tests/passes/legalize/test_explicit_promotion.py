from __future__ import annotations

import torch
from torch.fx import Node

from penstock.passes.core.shapes import dtype_of
from penstock.passes.legalize.explicit_promotion import ExplicitPromotion

COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")


def operand_dtypes(node: Node) -> set[torch.dtype]:
    return {dtype_of(used) for used in node.all_input_nodes}


def test_the_casts_are_written_out(run_pass, assert_listing):
    def model(ramp, half):
        return ramp.cos(), ramp * half, ramp / 2, ramp > half

    _, after = run_pass(model, (torch.arange(4), torch.randn(4).half()), ExplicitPromotion())
    assert_listing(
        after,
        """graph main
        in   ramp                                       i64[4]
        in   half                                       f16[4]
        cos_to_copy = _to_copy(ramp, dtype=float32)     f32[4]
        cos = cos(cos_to_copy)                          f32[4]
        mul_to_copy = _to_copy(ramp, dtype=float16)     f16[4]
        mul = mul(mul_to_copy, half)                    f16[4]
        div_to_copy = _to_copy(ramp, dtype=float32)     f32[4]
        div = div(div_to_copy, 2)                       f32[4]
        gt_to_copy = _to_copy(ramp, dtype=float16)      f16[4]
        gt = gt(gt_to_copy, half)                       bool[4]
        return (cos, mul, div, gt)
        """,
    )


def test_every_pair_of_dtypes_meets_in_one(run_pass):
    dtypes = (torch.bool, torch.int64, torch.int32, torch.float32, torch.float16)

    def model(*tensors):
        found = []
        for left in tensors:
            for right in tensors:
                found += [left + right, torch.maximum(left, right), left == right, torch.where(left > 0, left, right)]
                found += [left / (right + 1), torch.cat([left.reshape(-1), right.reshape(-1)]), left < 1.5, left * 2]
        return found

    # Half of them without dimensions, which weigh less in promotion.
    args = tuple(
        (torch.rand(3) * 4).to(dtype) if place % 2 else torch.tensor(2).to(dtype) for place, dtype in enumerate(dtypes)
    )
    _, after = run_pass(model, args, ExplicitPromotion())
    for node in after.graphs["main"].graph.nodes:
        kind = "cast" if "to_copy" in node.name else node.name.split("_")[0]
        if kind in ("add", "maximum", "div", "cat", "mul"):
            assert operand_dtypes(node) == {dtype_of(node)}, node.format_node()
        elif kind in COMPARED:
            assert len(operand_dtypes(node)) == 1, node.format_node()
        elif kind == "where":
            assert {dtype_of(used) for used in node.args[1:]} == {dtype_of(node)}, node.format_node()


def test_reductions_that_name_a_dtype(run_pass, op_names):
    def model(x, n):
        return (
            x.softmax(-1, dtype=torch.float32),
            torch._softmax(x.float(), -1, False),
            x.sum(0, dtype=torch.float32),
            n.sum(0),
            n.prod(0),
            n.cumsum(0),
            n.mean(0, dtype=torch.float32),
        )

    _, after = run_pass(
        model, (torch.randn(3, 4).half(), torch.arange(6, dtype=torch.int32).reshape(2, 3)), ExplicitPromotion()
    )
    for node in after.graphs["main"].graph.nodes:
        if node.op == "call_function" and "to_copy" not in node.name:
            assert operand_dtypes(node) == {dtype_of(node)}
            assert "dtype" not in node.kwargs


def test_a_sum_of_narrow_integers_stays_narrow(run_pass, assert_listing):
    _, after = run_pass(lambda x: x.sum(0, dtype=torch.int32), (torch.tensor([True, False]),), ExplicitPromotion())
    assert_listing(
        after,
        """graph main
        in   x                                              bool[2]
        sum_1_to_copy = _to_copy(x, dtype=int32)            i32[2]
        sum_1 = sum.dim_IntList(sum_1_to_copy, [0], dtype=int32)    i32[]
        return (sum_1)
        """,
    )


def test_logical_operators_take_truth(run_pass):
    def model(x, y):
        return torch.logical_and(x, y), torch.logical_not(x)

    _, after = run_pass(model, (torch.tensor([0.0, 2.0, float("nan")]), torch.tensor([1, 0, 3])), ExplicitPromotion())
    for node in after.graphs["main"].graph.nodes:
        if node.name.startswith("logical") and "to_copy" not in node.name:
            assert operand_dtypes(node) == {torch.bool}


def test_equal_dtypes_stay(run_pass):
    def model(x, y, mask):
        return torch.where(mask, x + y * 2, x.exp()), x.sum(0), x > y, torch.logical_not(mask)

    before, after = run_pass(model, (torch.randn(3), torch.randn(3), torch.rand(3) > 0.5), ExplicitPromotion())
    assert after is before

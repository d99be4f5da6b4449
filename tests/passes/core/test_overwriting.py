from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx import Node

from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.overwriting import out_variant, overwritable
from penstock.passes.core.program import Call, Phase, Plan, Program, Signature, TensorSpec
from tests.passes.analysis.graphs import GraphBuilder

aten = torch.ops.aten
KIB = 1024


def test_pointwise_operators_can_write_where_they_are_told() -> None:
    for target in (aten.add.Tensor, aten.gelu.default, aten.silu.default, aten.where.self, aten.pow.Tensor_Scalar):
        variant = out_variant(target)
        assert variant is not None
        assert variant._schema.arguments[-1].is_out
    for target in (aten.linear.default, aten.softmax.int, aten.sum.default, aten.permute.default):
        assert out_variant(target) is None


def test_an_operand_of_the_same_shape_and_dtype(build: GraphBuilder) -> None:
    x, row = build.argument(4, 8), build.argument(8)
    assert overwritable(build(aten.add.Tensor, row, x)) == (x,)
    assert overwritable(build(aten.mul.Tensor, x, x)) == (x,)
    assert overwritable(build(aten.gt.Scalar, x, 0)) == (), "bytes are no floats"
    whole = build(aten.view.default, x, [8, 4])
    assert overwritable(build(aten.exp.default, whole)) == (whole,)
    half = build(aten.slice.Tensor, x, 0, 0, 2)
    assert overwritable(build(aten.exp.default, half)) == (), "the other half may be needed"
    turned = build(aten.transpose.int, x, 0, 1)
    assert overwritable(build(aten.exp.default, turned)) == (), "equal places are not equal bytes"
    back = build(aten.transpose.int, build(aten.exp.default, turned), 0, 1)
    assert overwritable(build(aten.exp.default, back)) == (), "in order in PyTorch, which stores it turned, only"
    square = build.argument(4, 4)
    assert overwritable(build(aten.add.Tensor, square, build(aten.transpose.int, square, 0, 1))) == ()


def test_memory_in_place(build: GraphBuilder) -> None:
    x = build.argument(256)
    chain = build(aten.exp.default, build(aten.exp.default, build(aten.exp.default, x)))
    program = replace(build.finish(chain), in_place=True)
    assert [point.live_bytes for point in memory(program).timeline] == [2 * KIB, KIB, KIB], "x is the caller's"


def test_the_oracle_leaves_what_is_needed(build: GraphBuilder) -> None:
    x = build.argument(256)
    early = build(aten.exp.default, x)
    late = build(aten.mul.Tensor, build(aten.neg.default, early), early)
    program = replace(build.finish(late, x, early), in_place=True)
    given_x = torch.rand(256)
    before = given_x.clone()
    late_found, x_found, early_found = reference.run(program, (given_x,))
    assert torch.equal(given_x, before)
    assert torch.equal(x_found, before)
    assert torch.equal(early_found, before.exp())
    assert torch.equal(late_found, -before.exp() * before.exp())


def test_another_shape_of_a_value_that_dies_is_no_copy() -> None:
    makes, shapes = GraphBuilder(), GraphBuilder()
    graphs = {
        "makes": makes.finish(makes(aten.exp.default, makes.argument(4, 64))).graphs["main"],
        "shapes": shapes.finish(shapes(aten.view.default, shapes.argument(4, 64), [256])).graphs["main"],
    }
    ops = (Call("makes", ("x",), ("made",)), Call("shapes", ("made",), ("flat",)))
    x, flat = TensorSpec("x", (4, 64), torch.float32), TensorSpec("flat", (256,), torch.float32)
    border = Signature((x,), (flat,), {"tuple": []}, {"tuple": []})
    examples = (torch.rand(4, 64),)
    program = Program(graphs, Plan((Phase("main", (ops,)),)), border, examples, in_place=True)  # type: ignore[arg-type]
    seen: list[int] = []
    (found,) = reference.run(program, examples, lambda graph, node, value: seen.append(value.data_ptr()))
    assert torch.equal(found, examples[0].exp().flatten())
    assert set(seen) == {found.data_ptr()}


OPERATORS = (aten.exp.default, aten.neg.default, aten.sigmoid.default, aten.sum.dim_IntList, aten.transpose.int)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_in_place_changes_no_number(data: st.DataObject) -> None:
    """Random graphs of two calls on values that the plan carries, in the bytes that are planned."""
    names = ["x", "y"]
    graphs: dict[str, object] = {}
    ops: list[Call] = []
    for index in range(data.draw(st.integers(1, 3))):
        build = GraphBuilder()
        taken = [data.draw(st.sampled_from(names)) for _ in range(2)]
        values: list[Node] = [build.argument(8, 8) for _ in taken]
        for _ in range(data.draw(st.integers(1, 6))):
            values.append(_operator(build, data, values))
        made = [data.draw(st.sampled_from(values)) for _ in range(2)]
        graphs[f"g{index}"] = build.finish(*made).graphs["main"]
        results = tuple(data.draw(st.lists(st.sampled_from(["x", "y", "z", "w"]), min_size=2, max_size=2, unique=True)))
        ops.append(Call(f"g{index}", tuple(taken), results))
        names = sorted({*names, *results})
    specs = {name: TensorSpec(name, (8, 8), torch.float32) for name in names}
    border = Signature((specs["x"], specs["y"]), (specs["x"], specs[names[0]]), {"tuple": []}, {"tuple": []})
    plan = Plan((Phase("main", (tuple(ops),)),))
    examples = (torch.rand(8, 8), torch.rand(8, 8))
    program = Program(graphs, plan, border, examples)  # type: ignore[arg-type]
    in_place = replace(program, in_place=True)
    kept = [example.clone() for example in examples]
    for _ in range(2):
        for expected, found in zip(reference.run(program, examples), reference.run(in_place, examples), strict=True):
            assert torch.equal(expected, found)
        assert all(torch.equal(one, other) for one, other in zip(kept, examples, strict=True))
    assert memory(in_place).activation_bytes <= memory(program).activation_bytes


def _operator(build: GraphBuilder, data: st.DataObject, values: list[Node]) -> Node:
    target = data.draw(st.sampled_from((*OPERATORS, aten.add.Tensor, aten.mul.Tensor)))
    one, other = (data.draw(st.sampled_from(values)) for _ in range(2))
    if target in (aten.add.Tensor, aten.mul.Tensor):
        return build(target, one, other)
    if target is aten.sum.dim_IntList:
        return build(aten.mul.Tensor, other, build(target, one, [1], True))
    if target is aten.transpose.int:
        return build(target, one, 0, 1)
    return build(target, one)


def test_what_others_see_is_not_written_over(build: GraphBuilder) -> None:
    """The schema of dropout does not say that at inference it hands out its operand."""
    made = build(aten.exp.default, build.argument(8))
    same = build(aten.dropout.default, made, 0.5, False)
    program = replace(build.finish(build(aten.add.Tensor, build(aten.neg.default, same), made)), in_place=True)
    for _ in range(2):
        assert torch.equal(reference.run(program, (torch.rand(8),))[0], torch.zeros(8))

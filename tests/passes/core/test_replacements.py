"""What the frame guarantees about replacements: names, types, and strides that a later view can live with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch.fx import Node

from penstock.passes.core import base
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass
from penstock.passes.core.context import Context
from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.rewriter import Emitter, Rewriter

aten = torch.ops.aten


@dataclass(frozen=True)
class Narrow(RewritePass):
    """Wrongly replaces a rectifier by something of another dtype."""

    operators: ClassVar[Operators] = (aten.relu.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        return emit(aten._to_copy.default, node.args[0], dtype=torch.float16)


@dataclass(frozen=True)
class Transposed(RewritePass):
    """Computes a rectifier on the transposed tensor, which changes the strides of the result."""

    operators: ClassVar[Operators] = (aten.relu.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        turned = emit(
            aten.clone.default, emit(aten.permute.default, node.args[0], [1, 0]), memory_format=torch.contiguous_format
        )
        return emit(aten.permute.default, emit(aten.clamp_min.default, turned, 0), [1, 0])


def test_an_exact_pass_may_not_change_a_type(run_pass):
    with pytest.raises(InvalidProgramError) as caught:
        run_pass(lambda x: x.relu() + 1, (torch.randn(3),), Narrow())
    assert str(caught.value).endswith(
        "narrow: replaced 'relu' (relu(x)), which is f32[3], "
        "by 'relu_to_copy' (_to_copy(x, dtype=float16)), which is f16[3]"
    )


def test_a_view_that_new_strides_forbid_becomes_a_reshape(run_pass, assert_listing):
    def model(x):
        return x.relu().sin().view(12), x.relu().view(2, 2, 3)

    _, after = run_pass(model, (torch.randn(4, 3),), Transposed())
    assert_listing(
        after,
        """graph main
        in   x                                          f32[4, 3]
        relu_permute = permute(x, [1, 0])               f32[3, 4]
        relu_clone = clone(relu_permute, memory_format=contiguous_format)   f32[3, 4]
        relu_clamp_min = clamp_min(relu_clone, 0)       f32[3, 4]
        relu = permute(relu_clamp_min, [1, 0])          f32[4, 3]
        sin = sin(relu)                                 f32[4, 3]
        view = reshape(sin, [12])                       f32[12]
        relu_1_permute = permute(x, [1, 0])             f32[3, 4]
        relu_1_clone = clone(relu_1_permute, memory_format=contiguous_format)   f32[3, 4]
        relu_1_clamp_min = clamp_min(relu_1_clone, 0)   f32[3, 4]
        relu_1 = permute(relu_1_clamp_min, [1, 0])      f32[4, 3]
        view_1 = view(relu_1, [2, 2, 3])                f32[2, 2, 3]
        return (view, view_1)
        """,
    )
    sine = next(node for node in after.graphs["main"].graph.nodes if node.name == "sin")
    assert sine.meta["val"].stride() == (1, 4)


@dataclass(frozen=True)
class Watchful(RewritePass):
    """Compares matrices with a constant that it looks up first, instead of rectifying them; refuses other tensors."""

    operators: ClassVar[Operators] = (aten.relu.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        if node.meta["val"].dim() != 2:
            return Refusal("no matrix")
        zero = emit.rewriter.weights.get("zero", torch.tensor(0.0))
        return emit(aten.maximum.default, node.args[0], emit.constant(zero, "zero"))


def test_a_graph_that_a_pass_leaves_alone_is_not_copied(monkeypatch, run_pass):
    copied = []
    monkeypatch.setattr(base, "Rewriter", lambda module, made_by: copied.append(module) or Rewriter(module, made_by))
    context = Context()
    before, after = run_pass(lambda x: x.relu().relu(), (torch.randn(3),), Watchful(), context=context)
    assert after is before
    assert copied == []
    assert [(each.node, each.reason) for each in context.declined] == [("relu", "no matrix"), ("relu_1", "no matrix")]


def test_a_pass_refuses_one_node_and_changes_another(run_pass):
    context = Context()
    _, after = run_pass(lambda x: x.sum().relu() + x.relu(), (torch.randn(2, 3),), Watchful(), context=context)
    assert list(after.weights) == ["zero"]
    assert [each.node for each in context.declined] == ["relu"]

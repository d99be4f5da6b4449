from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.cleanup.dead_code import DeadCode
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Rewriter

aten = torch.ops.aten


def with_dead_nodes(program: Program) -> Program:
    """The Program with an unused operator, an unused attention and an unused weight."""
    edit = Rewriter(program.graphs["main"], "test")
    (node,) = edit.nodes()
    emit = edit.at(node)
    emit(aten.sin.default, node.args[0])
    emit(aten.scaled_dot_product_attention.default, *[node.args[0]] * 3)
    emit.constant(torch.ones(3), "unused")
    # Rewriter.finish would remove them at once.
    from penstock.passes.core.graphs import make_module

    return program.with_graphs(main=make_module(edit.weights, edit.graph, "main"))


def test_removes_what_nothing_uses_attention_and_weights_included(capture, run_pass, assert_listing):
    program = with_dead_nodes(capture(lambda x: x.cos(), (torch.randn(2, 3, 4),)))
    assert program.node_count == 3
    before, after = run_pass(program, program.examples, DeadCode())
    assert "unused" in before.weights
    assert "unused" not in after.weights
    assert_listing(after, ("graph main\n  in   x        f32[2, 3, 4]\n  cos = cos(x)  f32[2, 3, 4]\n  return (cos)\n"))


def test_unused_inputs_stay(capture, run_pass):
    before, after = run_pass(lambda x, y: x + 1, (torch.randn(2), torch.randn(3)), DeadCode())
    assert after is before
    assert len(after.signature.inputs) == 2


def test_used_attention_stays(run_pass):
    q = torch.randn(1, 2, 3, 4)
    before, after = run_pass(lambda q: F.scaled_dot_product_attention(q, q, q), (q,), DeadCode())
    assert after is before

from __future__ import annotations

import dataclasses

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from penstock.frontends.torch_export import capture_module
from penstock.passes.cleanup.fold_constants import FoldConstants
from penstock.passes.core import dialect, reference
from penstock.passes.core.context import Context
from penstock.passes.core.program import Call, Phase, Plan


class Positions(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frequency = torch.nn.Parameter(torch.rand(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.cos(torch.arange(3)[:, None] * self.frequency)


def test_what_depends_on_weights_alone_becomes_one_weight(run_pass, assert_listing):
    _, after = run_pass(Positions(), (torch.randn(3, 4),), FoldConstants())
    assert_listing(
        after,
        (
            "graph main\n"
            "  in   x                   f32[3, 4]\n"
            "  w    folded.cos          f32[3, 4]\n"
            "  add = add(x, folded.cos)  f32[3, 4]\n"
            "  return (add)\n"
        ),
    )


def test_large_values_that_come_from_nothing_are_left_to_the_device(run_pass):
    def model(x):
        return x + torch.arange(1 << 20)

    before, after = run_pass(model, (torch.randn(1 << 20),), FoldConstants(max_growth_bytes=1000))
    assert after is before
    _, folded = run_pass(model, (torch.randn(1 << 20),), FoldConstants(max_growth_bytes=1 << 24))
    assert folded.node_count == 1


def test_a_weight_in_another_form_is_folded_however_large(run_pass):
    weight = torch.nn.Parameter(torch.randn(64, 64))

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            return x @ (self.weight * 2)

    _, after = run_pass(Scaled(), (torch.randn(2, 64),), FoldConstants(max_growth_bytes=0))
    assert list(after.weights) == ["folded.mul"]
    assert torch.equal(after.weights["folded.mul"], weight.detach() * 2)


def test_random_and_uninitialised_values_are_not_folded(capture):
    program = capture(lambda x: x + torch.rand(4) + torch.empty(4).fill_(0), (torch.randn(4),))
    names = [str(node.target) for node in program.graphs["main"].graph.nodes]
    after = FoldConstants().run(program, Context())
    kept = [str(node.target) for node in after.graphs["main"].graph.nodes]
    assert [name for name in names if "rand" in name] == [name for name in kept if "rand" in name] != []


def test_equal_values_are_stored_once(run_pass):
    def model(x):
        return torch.cos(torch.arange(4)) + x, torch.cos(torch.arange(4)) * x

    _, after = run_pass(model, (torch.randn(4),), FoldConstants())
    assert len({id(tensor) for tensor in after.weights.values()}) == 1


def test_weights_without_data_fold_to_the_same_graph():
    """A plan that is made without data names the operators that are there with it."""

    with FakeTensorMode():
        module, args = Positions(), (torch.randn(3, 4),)
    captured = capture_module(module, args)
    assert "frequency" in FoldConstants().run(captured, Context()).weights
    fake = FoldConstants(without_data=True).run(captured, Context())
    real = FoldConstants().run(capture_module(Positions(), (torch.randn(3, 4),)), Context())
    assert fake.is_fake
    assert "frequency" not in fake.weights
    assert fake.weight_bytes == real.weight_bytes
    assert [str(node) for node in fake.graphs["main"].graph.nodes] == [
        str(node) for node in real.graphs["main"].graph.nodes
    ]


def test_constants_of_two_graphs_keep_their_numbers(capture):
    """Nodes of the same name in two graphs fold to constants of the same name, which are two."""

    class Scaled(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.register_buffer(f"w{int(factor)}", torch.full((4,), factor))
            self.factor = factor

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.get_buffer(f"w{int(self.factor)}").exp()

    one, two = (capture(Scaled(factor), (torch.zeros(4),)) for factor in (1.0, 2.0))
    (first,), (second,) = one.plan.ops(), two.plan.ops()
    both = dataclasses.replace(
        one.with_graphs(other=two.graphs["main"]),
        plan=Plan((Phase("main", ((first, Call("other", first.results, second.results)),)),)),
    )
    folded = FoldConstants().run(both, Context())
    dialect.check(folded, "the test")
    assert len(folded.weights) == 2
    x = torch.randn(4)
    (found,) = reference.run(folded, [x])
    torch.testing.assert_close(found, x + torch.tensor(1.0).exp() + torch.tensor(2.0).exp())

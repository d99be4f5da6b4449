from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from penstock.passes.analysis.cost import Cost, cost
from penstock.passes.core.program import Call, Phase, Plan, Program
from tests.passes.analysis.graphs import GraphBuilder

aten = torch.ops.aten

CONTRACTIONS: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "linear": (F.linear, ((2, 5, 8), (12, 8), (12,))),
    "conv1d": (F.conv1d, ((2, 6, 20), (9, 6, 3))),
    "conv2d with stride, padding, bias": (
        lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1),
        ((2, 6, 9, 11), (8, 6, 3, 3), (8,)),
    ),
    "conv2d in groups": (lambda x, w: F.conv2d(x, w, groups=3), ((2, 6, 9, 9), (12, 2, 3, 3))),
    "conv2d depthwise": (lambda x, w: F.conv2d(x, w, groups=6), ((2, 6, 9, 9), (6, 1, 3, 3))),
    "conv3d": (F.conv3d, ((1, 4, 5, 6, 7), (8, 4, 3, 1, 1))),
    "transposed conv2d": (lambda x, w: F.conv_transpose2d(x, w, stride=2), ((2, 6, 5, 5), (6, 4, 3, 3))),
    "transposed conv2d in groups": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=2),
        ((2, 6, 5, 5), (6, 4, 3, 3)),
    ),
    "matmul": (torch.matmul, ((5, 6), (6, 7))),
    "matmul of batches": (torch.matmul, ((2, 3, 5, 6), (2, 3, 6, 7))),
    "matmul broadcast": (torch.matmul, ((2, 3, 5, 6), (6, 7))),
    "bmm": (torch.bmm, ((3, 5, 6), (3, 6, 7))),
    "addmm": (torch.addmm, ((5, 7), (5, 6), (6, 7))),
    "attention": (F.scaled_dot_product_attention, ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))),
    "attention with narrow values": (F.scaled_dot_product_attention, ((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4))),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions_count_as_torch_counts(name: str, capture: Callable[..., Program]) -> None:
    function, shapes = CONTRACTIONS[name]
    args = [torch.randn(*shape) for shape in shapes]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        function(*args)
    assert counter.get_total_flops() > 0
    assert cost(capture(lambda *tensors: function(*tensors), args)).total.flops == counter.get_total_flops()


def test_operators_that_capture_takes_apart_count_alike(build: GraphBuilder) -> None:
    x, forward, transposed = build.argument(2, 6, 9, 9), build.argument(8, 6, 3, 3), build.argument(6, 4, 3, 3)
    rest = ([1, 1], [0, 0], [1, 1])
    down = build(aten.convolution.default, x, forward, None, *rest, False, [0, 0], 1)
    up = build(aten.convolution.default, x, transposed, None, *rest, True, [0, 0], 1)
    left, right = build.argument(3, 5, 6), build.argument(3, 6, 7)
    batches = build(aten.baddbmm.default, build.argument(3, 5, 7), left, right)
    flops = {row.node: row.cost.flops for row in cost(build.finish(down, up, batches)).nodes}
    assert flops == {
        down.name: 2 * 2 * 8 * 7 * 7 * 6 * 9,
        up.name: 2 * 2 * 6 * 9 * 9 * 4 * 9,
        batches.name: 2 * 3 * 5 * 6 * 7,
    }


def node_cost(build: GraphBuilder, target: object, *args: object) -> tuple[int, int]:
    node = build(target, *args)
    row = next(row for row in cost(build.finish(node)).nodes if row.node == node.name)
    return row.cost.flops, row.cost.moved_bytes


def test_elementwise_counts_one_per_element_and_moves_all(build: GraphBuilder) -> None:
    x, y = build.argument(4, 8), build.argument(8)
    assert node_cost(build, aten.add.Tensor, x, y) == (32, 4 * (32 + 8 + 32))


def test_an_argument_used_twice_is_read_once(build: GraphBuilder) -> None:
    x = build.argument(32)
    assert node_cost(build, aten.mul.Tensor, x, x) == (32, 4 * (32 + 32))


def test_reductions_count_what_they_read(build: GraphBuilder) -> None:
    assert node_cost(build, aten.sum.dim_IntList, build.argument(4, 8), [1]) == (32, 4 * (32 + 4))


def test_norms_and_softmax(build: GraphBuilder) -> None:
    x = build.argument(4, 8)
    assert node_cost(build, aten.layer_norm.default, x, [8]) == (8 * 32, 4 * 64)


def test_copies_move_bytes_and_compute_nothing(build: GraphBuilder) -> None:
    assert node_cost(build, aten.clone.default, build.argument(4, 8)) == (0, 4 * 64)


def test_views_are_free(build: GraphBuilder) -> None:
    turned = build(aten.permute.default, build.argument(4, 8), [1, 0])
    part = build(operator.getitem, build(aten.split.Tensor, turned, 2), 0)
    assert cost(build.finish(part)).total == Cost(operators=3)


def test_a_repeated_extent_is_read_once(build: GraphBuilder) -> None:
    row = build(aten.expand.default, build.argument(1, 8), [4, 8])
    assert node_cost(build, aten.exp.default, row) == (32, 4 * (8 + 32))


def test_embedding_reads_only_the_rows_it_returns(capture: Callable[..., Program]) -> None:
    program = capture(torch.nn.Embedding(1000, 8), (torch.tensor([1, 2, 3]),))
    assert cost(program).total == Cost(1, 0, 4 * 24 + 8 * 3 + 4 * 24)


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x).exp()
        return x


def test_modules_add_up_to_the_whole(capture: Callable[..., Program]) -> None:
    figures = cost(capture(Two(), (torch.randn(4, 8),)))
    linear = 2 * 4 * 8 * 8
    assert {path: row.flops for path, row in figures.by_module.items()} == {
        "": 2 * (linear + 32),
        "blocks": 2 * linear,
        "blocks.0": linear,
        "blocks.1": linear,
    }
    assert figures.total == figures.by_module[""]
    assert list(figures.by_operator) == ["linear", "exp"]
    assert figures.by_operator["linear"] == Cost(2, 2 * linear, 2 * 4 * (32 + 64 + 8 + 32))


def test_a_graph_counts_as_often_as_the_plan_calls_it(capture: Callable[..., Program]) -> None:
    once = capture(Two(), (torch.randn(4, 8),))
    call = once.plan.phases[0].steps[0][0]
    repeated = Call("main", call.results, call.results)
    plan = Plan((Phase("denoise", ((call,), *((repeated,),) * 9)),))
    many = Program(once.graphs, plan, once.signature, once.examples)
    assert cost(many).runs == {"main": 10}
    assert cost(many).total == cost(once).total.times(10)
    assert len(cost(many).nodes) == len(cost(once).nodes)


def test_an_empty_program_costs_nothing(build: GraphBuilder) -> None:
    assert cost(build.finish(build.argument(4))).total == Cost()

"""Every rule against brute force: what moves when one position of an argument changes, and parts against the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from penstock.passes.analysis.axes import Axis, CoarserError, WholeError, inputs_of, reach
from penstock.passes.core.reference import run
from penstock.passes.core.shapes import shape_of
from penstock.passes.slicing.forms import prepared
from tests.passes.slicing.slices import assert_equal, captured, in_parts

Case = tuple[Callable[..., Any], tuple[torch.Tensor, ...]]


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


W5_4 = rand(5, 4)
W5 = rand(5)
W6_8 = rand(6, 8)
W6_4_3 = rand(6, 4, 3)
W6_4_3_3 = rand(6, 4, 3, 3)
W6 = rand(6)
W6_4_3_1 = rand(6, 4, 3, 1)
W4_4_3_1_1 = rand(4, 4, 3, 1, 1)
W4_6_2_2 = rand(4, 6, 2, 2)
W4 = rand(4)
CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], int]] = {
    # name: the operator, the shapes of its arguments, how many axes it is independent along
    "add": (lambda a, b: a + b, ((2, 6, 4), (6, 1)), 3),
    "gelu": (F.gelu, ((2, 3, 4),), 3),
    "where": (lambda a, b: torch.where(a > 0.5, a, b), ((4, 6), (6,)), 2),
    "view that splits": (lambda a: a.view(2, 3, 4, 5).relu(), ((6, 20),), 4),
    "view that merges": (lambda a: a.view(6, 20).relu(), ((2, 3, 4, 5),), 2),
    "view that mixes": (lambda a: a.view(4, 9).relu(), ((6, 6),), 2),
    "permute": (lambda a: a.permute(2, 0, 1).relu(), ((2, 3, 4),), 3),
    "transpose": (lambda a: a.transpose(1, 2).relu(), ((2, 3, 4),), 3),
    "unsqueeze": (lambda a: a.unsqueeze(1).relu(), ((3, 4),), 2),
    "expand": (lambda a: a.expand(2, 6, 4) * 2, ((6, 1),), 3),
    "repeat": (lambda a: a.repeat(1, 2, 1) * 2, ((2, 3, 4),), 3),
    "repeat_interleave": (lambda a: a.repeat_interleave(2, dim=1) * 2, ((2, 3, 4),), 3),
    "repeat_interleave of channels": (
        lambda a, w=W6_4_3_3: F.conv2d(a.repeat_interleave(2, dim=1), w, padding=1),
        ((1, 2, 6, 4),),
        2,
    ),
    "slice": (lambda a: a[:, 1:5] * 2, ((2, 6, 4),), 3),
    "slice with a step": (lambda a: a[:, ::2] * 2, ((2, 6, 4),), 3),
    "select": (lambda a: a[:, 1] * 2, ((2, 6, 4),), 2),
    "cat": (lambda a, b: torch.cat([a, b], 1), ((2, 3, 4), (2, 5, 4)), 3),
    "cat along a window": (
        lambda a, w=W6_4_3: F.conv1d(torch.cat([a[:, :, :1], a.relu(), a[:, :, -1:]], 2), w),
        ((2, 4, 6),),
        2,
    ),
    "stack": (lambda a, b: torch.stack([a, b], 1), ((2, 3), (2, 3)), 2),
    "split": (lambda a: sum(a.chunk(2, 1)), ((2, 6, 4),), 3),
    "pad": (lambda a: F.pad(a, (1, 2, 2, 0), value=3.0), ((2, 4, 6),), 3),
    "linear": (lambda a, w=W5_4, u=W5: F.linear(a, w, u), ((2, 6, 4),), 2),
    "matmul": (lambda a, b: a @ b, ((2, 3, 6, 4), (3, 4, 6)), 4),
    "addmm": (lambda a, b, c: torch.addmm(a, b, c), ((4,), (6, 3), (3, 4)), 2),
    "baddbmm": (lambda a, b, c: torch.baddbmm(a, b, c), ((2, 6, 1), (2, 6, 3), (2, 3, 4)), 3),
    "embedding": (lambda a, w=W5_4: F.embedding((a * 5).long(), w), ((2, 6),), 2),
    "a table looked up": (lambda a, w=W5_4: F.embedding(torch.tensor([3, 0, 1, 4]), w) + a, ((2, 4, 4),), 3),
    "conv1d": (lambda a, w=W6_4_3: F.conv1d(a, w, padding=1), ((2, 4, 8),), 2),
    "conv2d": (lambda a, w=W6_4_3_3, u=W6: F.conv2d(a, w, u, padding=1), ((2, 4, 8, 6),), 3),
    "conv2d with a stride": (lambda a, w=W6_4_3_3: F.conv2d(a, w, stride=2, padding=1), ((2, 4, 8, 12),), 3),
    "conv2d dilated": (lambda a, w=W6_4_3_3: F.conv2d(a, w, dilation=2, padding=2), ((2, 4, 8, 6),), 3),
    "conv2d without padding": (lambda a, w=W6_4_3_1: F.conv2d(a, w), ((2, 4, 8, 6),), 3),
    "conv3d in time": (lambda a, w=W4_4_3_1_1: F.conv3d(a, w, padding=(1, 0, 0)), ((1, 4, 6, 4, 4),), 3),
    "transposed conv": (lambda a, w=W4_6_2_2: F.conv_transpose2d(a, w, stride=2), ((2, 4, 4, 4),), 3),
    "transposed conv that overlaps": (
        lambda a, w=W6_4_3_3, u=W4: F.conv_transpose2d(a, w, u, stride=(2, 1), padding=1, output_padding=(1, 0)),
        ((1, 6, 5, 6),),
        2,
    ),
    "transposed conv in groups, dilated": (
        lambda a, w=W6_4_3: F.conv_transpose1d(a, w, stride=3, padding=2, groups=2, dilation=2),
        ((2, 6, 7),),
        2,
    ),
    "a border repeated": (
        lambda a, w=W6_4_3: F.conv1d(F.pad(a.relu(), (2, 0), mode="replicate"), w),
        ((2, 4, 6),),
        2,
    ),
    "a border mirrored": (
        lambda a, w=W6_4_3_3: F.conv2d(F.pad(a.relu(), (1, 1, 1, 1), mode="reflect"), w),
        ((1, 4, 6, 4),),
        2,
    ),
    "max_pool2d": (lambda a: F.max_pool2d(a, 2), ((2, 4, 8, 4),), 4),
    "max_pool2d padded": (lambda a: F.max_pool2d(a - 0.5, 3, 2, padding=1), ((2, 4, 8, 8),), 4),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 2), ((2, 4, 8, 4),), 4),
    "avg_pool2d padded": (lambda a: F.avg_pool2d(a, 3, 2, padding=1), ((2, 4, 8, 6),), 4),
    "avg_pool2d that counts no padding": (
        lambda a: F.avg_pool2d(a, 3, 1, padding=1, count_include_pad=False),
        ((2, 4, 8, 6),),
        4,
    ),
    "avg_pool2d that counts no padding, with a stride": (
        lambda a: F.avg_pool2d(a, 5, 2, padding=2, count_include_pad=False),
        ((1, 2, 8, 12),),
        3,
    ),
    "group_norm": (lambda a, w=W4, u=W4: F.group_norm(a, 2, w, u), ((2, 4, 6, 4),), 3),
    "layer_norm": (lambda a, w=W4: F.layer_norm(a, (4,), w), ((2, 6, 4),), 2),
    "softmax": (lambda a: F.softmax(a, -1), ((2, 6, 4),), 2),
    "cumsum": (lambda a: a.cumsum(1), ((2, 6, 4),), 2),
    "mean": (lambda a: a.mean(1), ((2, 6, 4),), 2),
    "sum that keeps": (lambda a: a.sum((0, 2), keepdim=True), ((2, 6, 4),), 1),
    "any": (lambda a: (a > 0.8).any(1), ((2, 6, 4),), 2),
    "any of several": (lambda a: torch.ops.aten.any.dims(a > 0.8, [0, 1]), ((2, 6, 4),), 1),
    "vector norm": (lambda a: torch.linalg.vector_norm(a, dim=1), ((2, 6, 4),), 2),
    "attention": (F.scaled_dot_product_attention, ((2, 2, 6, 4), (2, 2, 8, 4), (2, 2, 8, 4)), 3),
    "masked attention": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        ((2, 2, 6, 4), (2, 2, 8, 4), (2, 2, 8, 4), (6, 8)),
        3,
    ),
    "causal attention": (
        lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        ((2, 2, 6, 4),),
        3,
    ),
    "grouped attention": (
        lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True),
        ((2, 4, 6, 4), (2, 2, 6, 4)),
        3,
    ),
    "attention with a table": (
        lambda q, k, m=W6_8: F.scaled_dot_product_attention(q, k, k, m),
        ((2, 2, 6, 4), (2, 2, 8, 4)),
        3,
    ),
    "nearest upsampling": (lambda a: F.interpolate(a, scale_factor=2.0), ((2, 4, 4, 6),), 4),
    "bilinear upsampling": (lambda a: F.interpolate(a, scale_factor=2.0, mode="bilinear"), ((2, 4, 4, 6),), 4),
    "bilinear upsampling to a size": (lambda a: F.interpolate(a, size=(16, 9), mode="bilinear"), ((1, 2, 4, 6),), 2),
    "bilinear upsampling with corners": (
        lambda a: F.interpolate(a, scale_factor=2.0, mode="bilinear", align_corners=True),
        ((2, 4, 4, 6),),
        2,
    ),
    "linear upsampling": (lambda a: F.interpolate(a, scale_factor=4.0, mode="linear"), ((2, 4, 6),), 3),
    "trilinear upsampling": (lambda a: F.interpolate(a, scale_factor=2.0, mode="trilinear"), ((1, 2, 4, 6, 4),), 4),
    "bicubic upsampling": (lambda a: F.interpolate(a, scale_factor=2.0, mode="bicubic"), ((1, 2, 6, 8),), 3),
    "conv2d after bilinear upsampling": (
        lambda a, w=W6_4_3_3: F.conv2d(F.interpolate(a, scale_factor=2.0, mode="bilinear"), w, padding=1),
        ((1, 4, 4, 6),),
        2,
    ),
    "pixel_shuffle": (lambda a: F.pixel_shuffle(a, 2), ((2, 8, 4, 6),), 4),
    "conv2d after pixel_shuffle": (
        lambda a, w=W6_4_3_3: F.conv2d(F.pixel_shuffle(a, 2), w, padding=1),
        ((1, 16, 3, 4),),
        2,
    ),
    "conv2d after a view that weaves": (
        lambda a, w=W6_4_3_3: F.conv2d(
            a.view(1, 2, 2, 4, 3, 4).permute(0, 3, 4, 1, 5, 2).reshape(1, 4, 6, 8), w, padding=1
        ),
        ((1, 16, 3, 4),),
        2,
    ),
    "pixel_unshuffle": (lambda a: F.pixel_unshuffle(a, 2), ((2, 2, 4, 6),), 3),
    "an empty operand": (lambda a: torch.cat([a[:, :0], a.relu()], 1) * 2, ((2, 6, 4),), 3),
    "flip": (lambda a: a.flip(1), ((2, 6, 4),), 2),
    "hardswish": (lambda a: F.hardswish(a * 8 - 4), ((2, 6, 4),), 3),
    "masked_fill": (lambda a, b: a.masked_fill(b > 0.5, b.sum()), ((2, 6, 4), (6, 1)), 3),
    "gather": (lambda a, b: a.gather(1, (b * 5).long()), ((2, 6, 4), (2, 3, 4)), 3),
    "gather from more": (lambda a, b: a.gather(1, (b * 5).long()), ((3, 6, 5), (2, 3, 4)), 3),
    "index": (lambda a: a[:, torch.tensor([2, 0, 0])], ((2, 6, 4),), 3),
    "index by neighbours": (lambda a, b, c: a[:, (b * 3).long(), (c * 5).long()], ((2, 4, 6, 5), (3, 1), (4,)), 4),
    "index by strangers": (lambda a, b, c: a[(b * 3).long(), :, (c * 5).long()], ((4, 2, 6, 5), (3, 1), (4,)), 4),
    "index_put": (lambda a, b: a.index_put((torch.tensor([[2], [0]]),), b), ((4, 6, 2), (2, 1, 6, 1)), 2),
    "index_put in the middle": (
        lambda a, b: a.index_put((torch.arange(2)[:, None], torch.tensor([3, 1])), b, accumulate=True),
        ((2, 4, 6), (2, 2, 6)),
        1,
    ),
    "slice_scatter": (lambda a, b: a.relu().slice_scatter(b, 1, 2, 5), ((2, 6, 4), (2, 3, 4)), 3),
    "slice_scatter at the end": (lambda a, b: a.relu().slice_scatter(b, 1, 3), ((2, 6, 4), (2, 3, 4)), 3),
    "slice_scatter with a step": (lambda a, b: a.relu().slice_scatter(b, 1, 0, 6, 2), ((2, 6, 4), (2, 3, 4)), 2),
    "scatter": (lambda a, b: a.scatter(1, torch.tensor([[[1] * 4, [3] * 4]] * 2), b), ((2, 6, 4), (2, 2, 4)), 2),
    "scatter of a number": (lambda a: a.scatter(1, torch.tensor([[[1] * 4]] * 2), 3.0), ((2, 6, 4),), 2),
    "scatter_add": (lambda a, b: a.scatter_add(1, (b * 5).long(), b), ((2, 6, 4), (2, 3, 4)), 2),
    "scatter to the first": (lambda a, b: a.scatter(1, torch.zeros(2, 1, 3, dtype=int), b), ((2, 6, 4), (2, 1, 3)), 1),
    "index_select": (lambda a: a.index_select(1, torch.tensor([2, 0, 0])), ((2, 6, 4),), 3),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Callable[..., Any], tuple[torch.Tensor, ...], int]:
    function, shapes, axes = CASES[request.param]
    return function, tuple(rand(*shape) for shape in shapes), axes


def test_parts_are_the_whole(case: Any) -> None:
    function, args, axes = case
    program = captured(function, *args)
    found = set()
    for axis, _, sliced in in_parts(program):
        assert_equal(program, sliced)
        found.add(axis.dim)
    assert len(found) == axes, f"cut along the dimensions {sorted(found)}"


def test_nothing_else_is_needed(case: Any) -> None:
    """Change each position of an argument: only results whose reach holds it may move."""
    function, args, _ = case
    program = captured(function, *args)
    module = prepared(program.graphs["main"])
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    values: dict[Any, torch.Tensor] = {}
    run(program.with_graphs(main=module), program.examples, lambda _, node, value: values.__setitem__(node, value))
    inputs = dict(zip(module.graph.find_nodes(op="placeholder"), program.examples, strict=True))
    weights = {
        node: program.with_graphs(main=module).weights[str(node.target)]
        for node in module.graph.find_nodes(op="get_attr")
    }
    held = {**inputs, **weights, **values}
    for node in nodes:
        for dim in range(len(shape_of(node))):
            try:
                axis = Axis.of(shape_of(node), dim)
                needs = reach(node, axis)
            except (WholeError, CoarserError):
                continue
            for key, source in inputs_of(node).items():
                need = needs[key]
                if need is None or not held[source].is_floating_point() or not held[node].is_floating_point():
                    continue
                for position in range(need.axis.size):
                    changed = _changed(held[source], need.axis, position)
                    moved = _moved(node, held, source, changed, dim)
                    reached = [need.needs(index, index + 1) for index in range(axis.size)]
                    allowed = {index for index, (low, high) in enumerate(reached) if low <= position < high}
                    if sum(1 for each in inputs_of(node).values() if each is source) == 1:
                        assert moved <= allowed, f"{node} {key} position {position}"


def _changed(tensor: torch.Tensor, axis: Axis, position: int) -> torch.Tensor:
    changed = tensor.clone().reshape(axis.split(tuple(tensor.shape)))
    changed.narrow(axis.dim + 1, position, 1).add_(1.7)
    return changed.reshape(tensor.shape)


def _moved(node: Any, held: dict[Any, torch.Tensor], source: Any, changed: torch.Tensor, dim: int) -> set[int]:
    def value(item: Any) -> Any:
        return changed if item is source else held[item]

    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), value)
    differs = (node.target(*args, **kwargs) - held[node]).abs() > 1e-6
    return {index for index in range(differs.shape[dim]) if differs.select(dim, index).any()}

from __future__ import annotations

import operator

import pytest
import torch

from penstock.passes.core.aliases import Buffer, buffers_of, is_view
from tests.passes.analysis.graphs import GraphBuilder

aten = torch.ops.aten


@pytest.mark.parametrize(
    ("target", "args", "expected"),
    [
        (aten.view.default, ([32],), True),
        (aten.permute.default, ([1, 0],), True),
        (aten.transpose.int, (0, 1), True),
        (aten.t.default, (), True),
        (aten.expand.default, ([4, 8],), True),
        (aten.slice.Tensor, (0, 1, 3), True),
        (aten.select.int, (0, 1), True),
        (aten.unsqueeze.default, (0,), True),
        (aten.squeeze.dims, ([0],), True),
        (aten.split.Tensor, (2,), True),
        (aten.chunk.default, (2,), True),
        (aten.unbind.int, (), True),
        (aten.reshape.default, ([2, 16],), True),
        (aten.contiguous.default, (), True),
        (aten.clone.default, (), False),
        (aten.exp.default, (), False),
        (aten.cat.default, None, False),
    ],
)
def test_views_of_a_contiguous_tensor(
    build: GraphBuilder, target: object, args: tuple[object, ...] | None, expected: bool
) -> None:
    x = build.argument(4, 8)
    node = build(target, [x, x]) if args is None else build(target, x, *args)
    assert is_view(node) is expected


def test_reshape_and_contiguous_copy_where_strides_forbid_a_view(build: GraphBuilder) -> None:
    turned = build(aten.permute.default, build.argument(4, 8), [1, 0])
    assert not is_view(build(aten.reshape.default, turned, [32]))
    assert not is_view(build(aten.contiguous.default, turned))
    assert is_view(build(aten.reshape.default, turned, [2, 4, 4]))


def test_a_cast_copies_only_to_another_dtype(build: GraphBuilder) -> None:
    x = build.argument(4)
    assert not is_view(build(aten._to_copy.default, x, dtype=torch.float16))
    assert is_view(build(aten._to_copy.default, x, dtype=torch.float32))


def test_buffers_follow_views_and_tuples(build: GraphBuilder) -> None:
    x = build.argument(4, 8)
    parts = build(aten.split.Tensor, x, 2)
    part = build(operator.getitem, parts, 1)
    top = build(aten.topk.default, part, 3)
    indices = build(operator.getitem, top, 1)
    turned = build(aten.t.default, indices)
    program = build.finish(turned)
    nodes = {node.name: node for node in program.graphs["main"].graph.nodes}
    buffers = buffers_of(program.graphs["main"].graph)
    assert buffers[nodes[part.name]] == (Buffer(nodes[x.name]),)
    assert buffers[nodes[parts.name]] == (Buffer(nodes[x.name]),) * 2
    assert buffers[nodes[turned.name]] == (Buffer(nodes[top.name], 1),)

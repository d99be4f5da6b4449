"""Programs of any size for timing passes: residual blocks with attention, in a chain or in the shape of a UNet."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, Node

from penstock.passes.core import dialect
from penstock.passes.core.graphs import make_module
from penstock.passes.core.program import Plan, Program, Signature, TensorSpec
from penstock.passes.core.shapes import fake_like, infer
from penstock.passes.core.structure import structure_of

aten = torch.ops.aten

CHANNELS, SIZE = 8, 4
BLOCK_NODES, JOIN_NODES = 17, 2


class _Builder:
    def __init__(self) -> None:
        self.graph = Graph()
        self.weights: dict[str, torch.Tensor] = {}
        self.example = torch.zeros(1, CHANNELS, SIZE, SIZE)
        self.x = self.graph.placeholder("x")
        self.x.meta["val"] = fake_like(self.example)

    def weight(self, name: str, *shape: int) -> Node:
        """A read of a weight; weights of one name are one."""
        tensor = self.weights.setdefault(name, torch.full(shape, 0.1))
        node = self.graph.create_node("get_attr", name)
        node.meta["val"] = fake_like(tensor)
        return node

    def call(self, target: Any, *args: Any) -> Node:
        node = self.graph.call_function(target, args)
        node.meta["val"] = infer(target, args, {})
        return node

    def block(self, x: Node) -> Node:
        """Norm, convolution and attention around two residuals: `BLOCK_NODES` operators."""
        c, call, weight = CHANNELS, self.call, self.weight
        hidden = call(aten.group_norm.default, x, 2, weight("norm.weight", c), weight("norm.bias", c))
        hidden = call(aten.silu.default, hidden)
        hidden = call(aten.conv2d.default, hidden, weight("conv.weight", c, c, 3, 3), None, [1, 1], [1, 1])
        x = call(aten.add.Tensor, x, hidden)
        tokens = call(aten.permute.default, call(aten.view.default, x, [1, c, SIZE * SIZE]), [0, 2, 1])
        hidden = call(aten.layer_norm.default, tokens, [c], weight("ln.weight", c), weight("ln.bias", c))
        hidden = call(aten.linear.default, hidden, weight("qkv.weight", 3 * c, c))
        parts = call(aten.chunk.default, hidden, 3, -1)
        query, key, value = (call(operator.getitem, parts, index) for index in range(3))
        hidden = call(aten.scaled_dot_product_attention.default, query, key, value)
        hidden = call(aten.linear.default, hidden, weight("out.weight", c, c))
        tokens = call(aten.add.Tensor, tokens, hidden)
        return call(aten.reshape.default, call(aten.permute.default, tokens, [0, 2, 1]), [1, c, SIZE, SIZE])

    def join(self, x: Node, skip: Node) -> Node:
        """A skip connection: `JOIN_NODES` operators."""
        both = self.call(aten.cat.default, [x, skip], 1)
        return self.call(aten.conv2d.default, both, self.weight("join.weight", CHANNELS, 2 * CHANNELS, 1, 1))

    def finish(self, result: Node) -> Program:
        self.graph.output((result,))
        shape, dtype = tuple(self.example.shape), self.example.dtype
        signature = Signature(
            inputs=(TensorSpec("x", shape, dtype),),
            outputs=(TensorSpec("output", shape, dtype),),
            arguments=structure_of(((self.example,), {})),
            result=structure_of(self.example),
        )
        module = make_module(self.weights, self.graph)
        program = Program({"main": module}, Plan.single("main", ("x",), ("output",)), signature, (self.example,))
        dialect.check(program, "the synthetic model")
        return program


def chain(nodes: int) -> Program:
    """Blocks one after the other, about `nodes` operators: few values are alive at a time."""
    build = _Builder()
    x = build.x
    for _ in range(max(1, round(nodes / BLOCK_NODES))):
        x = build.block(x)
    return build.finish(x)


def unet(nodes: int) -> Program:
    """Blocks on the way down and up, about `nodes` operators: each way down is remembered until its way up."""
    build = _Builder()
    x, skips = build.x, []
    for _ in range(max(1, round(nodes / (2 * BLOCK_NODES + JOIN_NODES)))):
        x = build.block(x)
        skips.append(x)
    while skips:
        x = build.block(build.join(x, skips.pop()))
    return build.finish(x)


SHAPES: dict[str, Callable[[int], Program]] = {"chain": chain, "unet": unet}

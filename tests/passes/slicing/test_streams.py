"""Attention over the joined tokens of two streams, which is taken apart again behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.context import Context
from penstock.passes.core.shapes import shape_of
from penstock.passes.slicing.feature_slicing import FeatureSlicing
from penstock.passes.slicing.forms import prepared
from tests.passes.slicing.slices import assert_equal, captured

aten = torch.ops.aten
WIDTH, HEADS, TEXT, IMAGE = 32, 4, 12, 256


class Block(nn.Module):
    """A block of a multi-modal transformer.

    Args:
        order: of the streams when they are joined.
        shared: whether one layer projects both streams' results, before they are taken apart.
    """

    def __init__(self, order: tuple[int, int] = (0, 1), shared: bool = False) -> None:
        super().__init__()
        self.order, self.shared = order, shared
        self.qkv = nn.ModuleList(nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3)) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.rand(TEXT + IMAGE, WIDTH // HEADS))

    def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        streams = text, image = text * 2, image * 2
        normed = [layer_norm(each, (WIDTH,)) for each in streams]
        heads = [
            [layer(x).view(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2) for layer in layers]
            for x, layers in zip(normed, self.qkv, strict=True)
        ]
        query, key, value = (torch.cat([heads[index][role] for index in self.order], 2) for role in range(3))
        seen = scaled_dot_product_attention(query * self.table, key, value).transpose(1, 2).flatten(2)
        if self.shared:
            seen = self.out[0](seen)
        pieces = dict(zip(self.order, seen.split([streams[index].shape[1] for index in self.order], 1), strict=True))
        made = [pieces[index] if self.shared else self.out[index](pieces[index]) for index in range(2)]
        text, image = text + made[0], image + made[1]
        return text, image + self.down(gelu(self.up(image)))


class Single(nn.Module):
    """A block that joins the streams whole: what is taken apart is its sum."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat([text, image], 1)
        heads = [layer(joined).view(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2) for layer in self.qkv]
        joined = joined + scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        text, image = joined.split([TEXT, IMAGE], 1)
        return text * 2, image * 3


def inputs(image: int = IMAGE) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(1, TEXT, WIDTH), torch.randn(1, image, WIDTH)


def queries(module: torch.fx.GraphModule) -> list[int]:
    found = module.graph.find_nodes(op="call_function", target=aten.scaled_dot_product_attention.default)
    return sorted(shape_of(node)[-2] for node in found)


@pytest.mark.parametrize("make", [Block, lambda: Block((1, 0)), lambda: Block(shared=True)])
def test_each_stream_attends_with_its_own_queries(make: Callable[[], nn.Module]) -> None:
    program = captured(make(), *inputs())
    module = prepared(program.graphs["main"])
    assert queries(module) == [TEXT, IMAGE]
    results = (reference.run(each, program.examples) for each in (program, program.with_graphs(main=module)))
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


class Padded(nn.Module):
    """Rows to which one of ones is added, which is taken off again: it is made of no row before."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        made = self.layer(nn.functional.pad(image * 2, (0, 0, 0, 1), value=1))
        return made[:, :-1] / made[:, -1:], text * 2


def test_what_is_padded_is_taken_apart_behind_the_padding() -> None:
    program = captured(Padded(), *inputs())
    module = prepared(program.graphs["main"])
    assert len(module.graph.find_nodes(op="call_function", target=aten.linear.default)) == 2
    results = (reference.run(each, program.examples) for each in (program, program.with_graphs(main=module)))
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_streams_that_stay_joined_are_left_alone() -> None:
    module = captured(Single(), *inputs()).graphs["main"]
    assert queries(prepared(module)) == [TEXT + IMAGE]


class Looping(nn.Module):
    """Attention of values to themselves: they are needed whole, as keys, whatever is read of the result."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        joined = self.layer(torch.cat([text, image], 1))
        text, image = scaled_dot_product_attention(joined, joined, joined).split([TEXT, IMAGE], 1)
        return text * 2, image * 3


def test_what_is_needed_whole_is_made_once() -> None:
    module = prepared(captured(Looping(), *inputs()).graphs["main"])
    assert queries(module) == [TEXT, IMAGE]
    assert len(module.graph.find_nodes(op="call_function", target=aten.linear.default)) == 1


def test_a_stream_is_made_where_it_lay() -> None:
    """What stays whole: the image's tokens, which its parts are added to, keys and values."""
    program = captured(Block(), *inputs())
    least = FeatureSlicing("min").run(program, Context())
    assert_equal(program, least)
    whole = 4 * WIDTH * IMAGE
    assert 3 * whole < memory(least).activation_bytes < 3.8 * whole

"""What the search asks of one operator again and again, found out once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg

from penstock.passes.analysis.axes import inputs_of
from penstock.passes.analysis.cost import node_flops, node_moved_bytes
from penstock.passes.core.aliases import is_view
from penstock.passes.core.overwriting import overwritable
from penstock.passes.core.shapes import nbytes, value_of
from penstock.passes.slicing.dense import DenseViews
from penstock.passes.slicing.estimates import is_cheap, seconds_of


@dataclass(frozen=True)
class Fact:
    """One node of a graph that does not change any more."""

    node: Node

    @cached_property
    def bytes(self) -> int:
        """Of its result."""
        return nbytes(value_of(self.node))

    @cached_property
    def item_bytes(self) -> int:
        """Of one element."""
        return int(value_of(self.node).element_size())

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of its result."""
        return tuple(value_of(self.node).shape)

    @cached_property
    def is_view(self) -> bool:
        """Whether it moves no data."""
        return self.node.op == "call_function" and is_view(self.node)

    @cached_property
    def overwritable(self) -> tuple[Node, ...]:
        """The operands whose memory its result may take over."""
        return overwritable(self.node)

    @cached_property
    def sources(self) -> Mapping[str, Node]:
        """Its tensor arguments by key."""
        return inputs_of(self.node)

    @cached_property
    def operands(self) -> frozenset[Node]:
        """Its tensor arguments."""
        return frozenset(self.sources.values())

    @cached_property
    def signature(self) -> int:
        """A fingerprint of what it does with its tensor arguments, whatever their sizes."""
        return hash((self.node.target, repr(map_arg((self.node.args, self.node.kwargs), lambda _: None))))

    @cached_property
    def kernel(self) -> int:
        """A fingerprint of what it does at its sizes."""
        return hash((self.signature, _shapes(self.node), *map(_shapes, self.sources.values())))

    @cached_property
    def seconds(self) -> float:
        """How long it takes, as estimated."""
        return seconds_of(self.node)

    @cached_property
    def flops(self) -> int:
        """Its arithmetic."""
        return node_flops(self.node)

    @cached_property
    def moved_bytes(self) -> int:
        """What it reads and writes at least."""
        return node_moved_bytes(self.node)

    @cached_property
    def is_cheap(self) -> bool:
        """Whether its bytes take longer than its arithmetic."""
        return is_cheap(self.node)


def _shapes(node: Node) -> tuple[Any, ...]:
    value = value_of(node)
    return tuple(value.shape) if isinstance(value, torch.Tensor) else tuple(tuple(each.shape) for each in value)


FORBIDDEN = 1 << 60
"""Bytes that are above every budget: what a value costs that is larger than the device allocates at once."""


def counted(bytes_: int, largest: int | None) -> int:
    """What a value of some bytes costs where no single allocation may exceed `largest`."""
    return bytes_ if largest is None or bytes_ <= largest else bytes_ + FORBIDDEN


class Facts(dict[Node, Fact]):
    """The facts about every node of a graph, found out when first asked for.

    Args:
        largest: bytes that no single value may exceed; None for no limit.
    """

    def __init__(self, largest: int | None = None) -> None:
        super().__init__()
        self.largest = largest
        self.views = DenseViews()

    def counted(self, node: Node) -> int:
        """The bytes of a result, which are above every budget where it is too large."""
        return counted(self[node].bytes, self.largest)

    def __missing__(self, node: Node) -> Fact:
        fact = self[node] = Fact(node)
        return fact

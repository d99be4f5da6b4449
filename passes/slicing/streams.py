"""Streams that are joined to be made at once, kept apart where the result is taken apart again.

A block of a multi-modal transformer joins the tokens of a text and of an image, attends from all to all, and takes the
result apart, to add each piece to its own stream. Seen as one value, the result of the attention has to wait until both
are made. With an attention for the queries of each stream there is no such value: each stream is made in parts from its
queries to its sum, and lies where it lay before. Likewise queries and keys that are projected as one, of which those of
the image alone are rotated. What an attention needs of all tokens stays joined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.fx import Node

from penstock.passes.analysis.axes import Axis, CoarserError, Reach, WholeError, inputs_of, reach
from penstock.passes.analysis.axes.rules import Part, crop, make_part
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.rewriter import Emitter, Rewriter
from penstock.passes.core.shapes import shape_of, value_of

aten = torch.ops.aten
Range = tuple[int, int]
_PRODUCTS = (aten.linear.default, aten.scaled_dot_product_attention.default)


def taken_apart(edit: Rewriter) -> None:
    """Make what is read in pieces in these pieces, as far back as all of it is, if there is a product among it."""
    for node in edit.nodes():
        cuts = _cuts(node)
        if cuts:
            joined = _Joined({node: Axis.of(shape_of(node), _dim(next(iter(cuts))))})
            if joined.is_alone():
                joined.take_apart(edit, cuts)


def _cuts(node: Node) -> dict[Node, Range]:
    """The slices that alone read a value, with their ranges, if they cover a dimension piece by piece."""
    readers = _readers(node)
    if len(readers) < 2 or any(reader.target is not aten.slice.Tensor for reader in readers):
        return {}
    if not isinstance(value_of(node), torch.Tensor) or len({_dim(reader) for reader in readers}) > 1:
        return {}
    cuts: dict[Node, Range] = {}
    extent = shape_of(node)[_dim(readers[0])]
    for reader in readers:
        found = arguments_of(reader)
        low, high, step = slice(found["start"], found["end"], found["step"]).indices(extent)
        if step != 1:
            return {}
        cuts[reader] = low, high
    ranges = sorted(set(cuts.values()))
    ends = [0, *(high for _, high in ranges)]
    return cuts if len(ranges) > 1 and [*(low for low, _ in ranges), extent] == ends else {}


def _dim(cut: Node) -> int:
    return int(arguments_of(cut)["dim"]) % len(shape_of(cut))


def _readers(node: Node) -> list[Node]:
    """What reads a value, without operators whose results nothing reads, such as a split that became slices."""
    return [user for user in node.users if user.users or user.op != "call_function"]


@dataclass
class _Joined:
    """A value that is taken apart, and the operators that make it piece by piece and nothing else.

    Attributes:
        axes: for each of them, the axis along which it is taken apart.
    """

    axes: dict[Node, Axis]

    def is_alone(self) -> bool:
        """Find the operators; whether there is a product among them, and no sum with what the streams were before.

        Such a sum lies where they lay, joined.
        """
        (node,) = self.axes
        if not _goes_along(node, self.axes[node]):
            return False
        waiting = [node]
        while waiting:
            node = waiting.pop()
            for _, source, need in _needed(node, self.axes[node]):
                if source not in self.axes and self._is_joined_only(source, need.axis):
                    self.axes[source] = need.axis
                    waiting.append(source)
        return any(each.target in _PRODUCTS for each in self.axes) and not any(map(self._adds_to_another, self.axes))

    def _adds_to_another(self, node: Node) -> bool:
        """Whether an operator that is no product is made of another value of its size, which is there anyway."""
        return node.target not in _PRODUCTS and any(
            source not in self.axes
            and source.op != "get_attr"
            and not (source.target is aten.cat.default and all(reader in self.axes for reader in _readers(source)))
            and math.prod(shape_of(source)) >= math.prod(shape_of(node))
            for _, source, _ in _needed(node, self.axes[node])
        )

    def _is_joined_only(self, source: Node, axis: Axis) -> bool:
        if source.op != "call_function" or source.target is aten.cat.default or not _goes_along(source, axis):
            return False
        for reader in _readers(source):
            if reader not in self.axes:
                return False
            needs = reach(reader, self.axes[reader])
            found = [needs[key] for key, each in inputs_of(reader).items() if each is source]
            if any(need is None or need.axis != axis for need in found):
                return False
        return True

    def take_apart(self, edit: Rewriter, cuts: dict[Node, Range]) -> None:
        """Replace each slice by the operators on its range."""
        made: dict[tuple[Node, Axis, Range], Node] = {}
        for cut in edit.nodes(aten.slice.Tensor):  # in order, as one may read what was made for another
            if cut in cuts:
                source = cut.args[0]
                assert isinstance(source, Node)
                edit.replace(cut, self._made(edit.at(cut), source, self.axes[source], cuts[cut], made))

    def _made(
        self, emit: Emitter, node: Node, axis: Axis, held: Range, made: dict[tuple[Node, Axis, Range], Node]
    ) -> Node:
        """Some positions of a value."""
        key = node, axis, held
        if key not in made:
            if node in self.axes:
                tensors = {
                    name: self._made(emit, source, need.axis, held, made) for name, source, need in _needed(node, axis)
                }
                made[key] = make_part(Part(node, axis, *held, dict.fromkeys(tensors, (0, 0))), emit, tensors)
            else:
                made[key] = _operand(node, axis, held) or crop(emit, node, axis, axis.size, *held)
        return made[key]


def _goes_along(node: Node, axis: Axis) -> bool:
    """Whether an operator works position by position along an axis, on some value that is no weight."""
    try:
        needs = list(_needed(node, axis))
    except (WholeError, CoarserError):
        return False
    in_step = all(need.is_parallel and need.axis.size == axis.size for _, _, need in needs)
    return in_step and any(source.op != "get_attr" for _, source, _ in needs)


def _needed(node: Node, axis: Axis) -> Iterator[tuple[str, Node, Reach]]:
    """The operands that go along an axis, by key, with what is needed of them."""
    needs = reach(node, axis)
    return ((key, source, need) for key, source in inputs_of(node).items() if (need := needs[key]) is not None)


def _operand(node: Node, axis: Axis, held: Range) -> Node | None:
    """The operand of a concatenation that is just the range."""
    if node.target is not aten.cat.default or (axis.outer, axis.inner) != (1, 1):
        return None
    found = arguments_of(node)
    if found["dim"] % len(shape_of(node)) != axis.dim:
        return None
    start = 0
    for each in found["tensors"]:
        extent = shape_of(each)[axis.dim]
        if (start, start + extent) == held:
            return each  # type: ignore[no-any-return]
        start += extent
    return None

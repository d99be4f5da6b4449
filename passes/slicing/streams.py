"""Attention over joined streams, taken apart where its result is.

A block of a multi-modal transformer joins the tokens of a text and of an image, attends from all to all, and takes the
result apart again, to add each piece to its own stream. Seen as one value, the result of the attention has to wait
until both are made. With an attention for the queries of each stream there is no such value: each stream is made in
parts from its queries to its sum, and lies where it lay before. Keys and values are joined as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes import Axis, CoarserError, WholeError, inputs_of, reach
from penstock.passes.analysis.axes.rules import Part, crop, make_part
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.rewriter import Emitter, Rewriter
from penstock.passes.core.shapes import shape_of, value_of

aten = torch.ops.aten
Range = tuple[int, int]


def taken_apart(edit: Rewriter) -> None:
    """Give each stream that is cut out of an attention's result an attention of its own."""
    for attention in edit.nodes(aten.scaled_dot_product_attention.default):
        joined = _Joined.behind(attention)
        if joined is not None:
            joined.take_apart(edit)


@dataclass
class _Joined:
    """The operators from the queries of an attention to where its result is taken apart.

    Attributes:
        axes: for each, the axis of the queries.
        cuts: the slices that take it apart, with their ranges.
    """

    axes: dict[Node, Axis]
    cuts: dict[Node, Range]

    @staticmethod
    def behind(attention: Node) -> _Joined | None:
        """What follows an attention; None where its result is not just taken apart."""
        shape = shape_of(attention)
        joined = _Joined({attention: Axis.of(shape, len(shape) - 2)}, {})
        waiting = [attention]
        try:
            while waiting:
                node = waiting.pop()
                waiting += (user for user in node.users if joined._follow(node, user))
        except (WholeError, CoarserError):
            return None
        ranges = sorted(set(joined.cuts.values()))
        ends = [0, *(high for _, high in ranges)]
        if len(ranges) < 2 or [low for low, _ in ranges] != ends[:-1] or ends[-1] != joined.axes[attention].size:
            return None
        joined._add_queries()
        return joined

    def _follow(self, node: Node, user: Node) -> bool:
        """Add an operator that reads a result, or the slice that it is; whether there is more behind it."""
        if user in self.axes or user in self.cuts or _is_dead(user):
            return False
        axis = self.axes[node]
        if user.target is aten.slice.Tensor:
            found = arguments_of(user)
            if found["dim"] % len(shape_of(node)) == axis.dim and (axis.outer, axis.inner) == (1, 1):
                low, high, step = slice(found["start"], found["end"], found["step"]).indices(axis.size)
                if step != 1:
                    raise WholeError("it is cut with a step")
                self.cuts[user] = low, high
                return False
        self.axes[user] = self._axis_of(user, node)
        return True

    def _axis_of(self, user: Node, node: Node) -> Axis:
        """The axis of a result that is that of an operand, if the result is made of nothing else but weights there."""
        if user.op != "call_function" or not isinstance(value_of(user), torch.Tensor):
            raise WholeError("it is a result, or one of several")
        for dim in range(len(shape_of(user))):
            try:
                axis = Axis.of(shape_of(user), dim)
                needs = reach(user, axis)
            except (WholeError, CoarserError):
                continue
            sources = inputs_of(user)
            along = {source: needs[key] for key, source in sources.items() if needs[key] is not None}
            found = along.get(node)
            if found is None or not found.is_parallel or found.axis != self.axes[node]:
                continue
            if all(source in self.axes or source.op == "get_attr" for source in along):
                return axis
        raise WholeError("its queries are mixed, or met by another value")

    def _add_queries(self) -> None:
        """Add what the operators are made of and nothing else is, as far as it goes query by query."""
        waiting = list(self.axes)
        while waiting:
            user = waiting.pop()
            for source, axis in self._along(user):
                if source.op != "call_function" or source in self.axes or source.target is aten.cat.default:
                    continue
                readers = [other for other in source.users if not _is_dead(other)]
                if any(other not in self.axes or (source, axis) not in self._along(other) for other in readers):
                    continue
                try:
                    if all(need is None or need.is_parallel for need in reach(source, axis).values()):
                        self.axes[source] = axis
                        waiting.append(source)
                except (WholeError, CoarserError):
                    continue

    def _along(self, node: Node) -> list[tuple[Node, Axis]]:
        """The operands of an operator that go along the axis, with their axes."""
        needs = reach(node, self.axes[node])
        return [(source, need.axis) for key, source in inputs_of(node).items() if (need := needs[key]) is not None]

    def take_apart(self, edit: Rewriter) -> None:
        """Replace each slice by the operators on its range."""
        made: dict[tuple[Node, Range], Node] = {}
        for cut, held in self.cuts.items():
            source = cut.args[0]
            assert isinstance(source, Node)
            edit.replace(cut, self._made(edit.at(cut), source, self.axes[source], held, made))

    def _made(self, emit: Emitter, node: Node, axis: Axis, held: Range, made: dict[tuple[Node, Range], Node]) -> Node:
        """Some positions of a value."""
        if (node, held) not in made:
            if node in self.axes:
                tensors = {
                    key: self._made(emit, source, need.axis, held, made) for key, source, need in _needed(node, axis)
                }
                made[node, held] = make_part(Part(node, axis, *held, dict.fromkeys(tensors, (0, 0))), emit, tensors)
            else:
                joined = _operand(node, axis, held)
                made[node, held] = joined or crop(emit, node, axis, axis.size, *held)
        return made[node, held]


def _is_dead(node: Node) -> bool:
    """Whether nothing reads what an operator makes, such as a split that became slices."""
    return node.op == "call_function" and not node.users


def _needed(node: Node, axis: Axis) -> Iterator[tuple[str, Node, Any]]:
    needs: Mapping[str, Any] = reach(node, axis)
    return ((key, source, needs[key]) for key, source in inputs_of(node).items() if needs[key] is not None)


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

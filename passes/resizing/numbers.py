"""Numbers in arithmetic that were sizes when the model was captured: `mask_until = length + x.shape[1]`."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch.fx import Node

from penstock.passes.core.printer import op_name
from penstock.passes.core.shapes import shape_of, value_of
from penstock.passes.core.source import source_of

aten = torch.ops.aten
_log = logging.getLogger(__name__)
_LEAST = 3  # smaller numbers are everywhere
_NO_SIZES = ("pow", "clamp")

Changed = Mapping[int, set[int]]
"""For sizes that were in the graph, what they are now."""


def settle_numbers(made: Mapping[Node, Node], changed: Changed) -> None:
    """Change the numbers that can only be sizes: whole ones in arithmetic on whole numbers, as for positions and masks.

    A number that may be a size, such as the scale of a mean, stays, and the log says so.

    Args:
        made: for the operators before, those with new sizes.
    """
    for old, node in made.items():
        if node.op != "call_function" or torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            continue
        if any(name in op_name(node) for name in _NO_SIZES):
            continue
        for place, number in enumerate(node.args):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            if isinstance(number, int) and _counts(node):
                own = _changes(old, made)
                node.update_arg(place, _renewed(node, number, {**changed, **own}, bool(own)))
            else:
                _warn(node, number, _changes(old, made))


def _counts(node: Node) -> bool:
    """Whether an operator computes with whole numbers."""
    return not any(value_of(source).dtype.is_floating_point for source in node.all_input_nodes)


def _renewed(node: Node, number: int, changed: Changed, own: bool) -> int:
    for was, offset in ((abs(number), 0), (abs(number) + 1, -1)):
        news = changed.get(was, set()) - {was}
        if was < _LEAST or not news:
            continue
        if changed[was] == news and len(news) == 1:
            new = (news.pop() + offset) * (1 if number > 0 else -1)
            _log.warning(
                "'%s' (%s, %s) computes with %d, taken to be the size %d, now %d: it becomes %d",
                node.name, op_name(node), source_of(node), number, was, new - offset, new,
            )  # fmt: skip
            return new
        _warn(node, number, changed)
        return number
    if abs(number) >= _LEAST and own:
        _log.warning(
            "'%s' (%s, %s) computes with %d along a size that changes, from which it may follow: it stays",
            node.name, op_name(node), source_of(node), number,
        )  # fmt: skip
    return number


def _changes(old: Node, made: Mapping[Node, Node]) -> Changed:
    """What the sizes of an operator's arguments were, where they are others now."""
    return {
        was: {now}
        for source in old.all_input_nodes
        for was, now in zip(shape_of(source), shape_of(made[source]), strict=True)
        if was != now
    }


def _warn(node: Node, number: float, changed: Changed) -> None:
    sizes = (abs(number), 1 / abs(number)) if number else ()
    for was, now in changed.items():
        if was >= _LEAST and now != {was} and was in sizes:
            _log.warning(
                "'%s' (%s, %s) computes with %s, which may have been the size %d, now %s: it stays as it is",
                node.name, op_name(node), source_of(node), number, was, " or ".join(map(str, sorted(now))),
            )  # fmt: skip
            return

"""Canonical forms: one way to say each thing, and nothing said that has no effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of, tensor_of

aten = torch.ops.aten

_Rule = Callable[[Node, Emitter], Node | None]


@register
@dataclass(frozen=True)
class Canonicalize(RewritePass):
    """Write layout operators in one form and remove those that change nothing.

    What:
        =============================================  =============================
        found                                          becomes
        =============================================  =============================
        view, expand, slice, … of the same type        their argument
        pad by nothing                                 its argument
        other strides of dimensions of one element     their argument
        clone, cast without effect on dtype or layout  their argument
        dropout, adding 0, multiplying by 1            their argument
        repeat once                                    its argument
        copy over a value of the same type             what is copied
        cat with empty tensors, or of one              without them; that one
        transpose, t                                   permute
        permute of permute                             one permute, or none
        view of view                                   one view
        _unsafe_view                                   view
        =============================================  =============================

    Given::

        transpose = transpose.int(x, 1, 2)             f32[2, 4, 3]
        permute = permute(transpose, [0, 2, 1])        f32[2, 3, 4]
        view = view(permute, [2, 12])                  f32[2, 12]
        view_1 = view(view, [24])                      f32[24]

    Result::

        view_1 = view(x, [24])                         f32[24]

    Exactness:
        Exact, bit by bit.
    """

    operators: ClassVar[Operators] = (
        aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default, aten.slice.Tensor,
        aten.repeat.default, aten.constant_pad_nd.default, aten.squeeze.dims, aten.clone.default, aten.alias.default,
        aten.contiguous.default, aten._to_copy.default, aten.dropout.default, aten.detach.default,
        aten.lift_fresh_copy.default, aten.permute.default, aten.transpose.int, aten.t.default, aten.add.Tensor,
        aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.cat.default, aten.copy.default,
        aten.as_strided.default,
    )  # fmt: skip

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The canonical form of one node, or None if it has it."""
        return _RULES[node.target](node, emit)  # type: ignore[index]


def _source(node: Node) -> Node:
    source = node.args[0]
    assert isinstance(source, Node)
    return source


def _same_type(node: Node) -> Node | None:
    """The argument, if the result has its shape, dtype and strides."""
    source, result = tensor_of(_source(node)), tensor_of(node)
    same = source.shape == result.shape and source.dtype == result.dtype and source.stride() == result.stride()
    return _source(node) if same else None


def _drop_if_same_type(node: Node, emit: Emitter) -> Node | None:
    return _same_type(node)


def _view(node: Node, emit: Emitter) -> Node | None:
    same = _same_type(node)
    if same is not None:
        return same
    source = _source(node)
    if source.target in (aten.view.default, aten._unsafe_view.default) and tensor_of(_source(source)).is_contiguous():
        return emit(aten.view.default, source.args[0], list(shape_of(node)))
    return emit(aten.view.default, *node.args) if node.target is aten._unsafe_view.default else None


def _dropout(node: Node, emit: Emitter) -> Node | None:
    found = arguments_of(node)
    return None if found["train"] and found["p"] else _source(node)


def _pad(node: Node, emit: Emitter) -> Node | None:
    """A pad on one side that cuts off as much on the other keeps the shape and moves the elements."""
    return None if any(arguments_of(node)["pad"]) else _source(node)


def _as_strided(node: Node, emit: Emitter) -> Node | None:
    found, source = arguments_of(node), tensor_of(_source(node))
    if list(source.shape) != list(found["size"]) or found["storage_offset"] not in (None, source.storage_offset()):
        return None
    strides = zip(source.shape, source.stride(), found["stride"], strict=True)
    return _source(node) if all(extent == 1 or old == new for extent, old, new in strides) else None


def _repeat(node: Node, emit: Emitter) -> Node | None:
    return _source(node) if shape_of(_source(node)) == shape_of(node) else None


def _copy(node: Node, emit: Emitter) -> Node | None:
    source = node.args[1]
    same = isinstance(source, Node) and shape_of(source) == shape_of(node) and dtype_of(source) == dtype_of(node)
    return source if same else None  # type: ignore[return-value]


def _cat(node: Node, emit: Emitter) -> Node | None:
    found = arguments_of(node)
    items: Sequence[Node] = found["tensors"]
    kept = [item for item in items if tensor_of(item).numel()]
    if not kept or any(dtype_of(item) != dtype_of(node) for item in kept):
        return None
    if len(kept) == 1:
        return kept[0]
    return emit(aten.cat.default, kept, found["dim"]) if len(kept) < len(items) else None


def _permute(node: Node, emit: Emitter) -> Node | None:
    order = _order(node)
    source = _source(node)
    if source.target is aten.permute.default:
        inner = _order(source)
        source, order = _source(source), [inner[dim] for dim in order]
    if order == list(range(len(order))):
        return source
    same = source is node.args[0] and node.target is aten.permute.default and list(_dims(node)) == order
    return None if same else emit(aten.permute.default, source, order)


def _order(node: Node) -> list[int]:
    """The order of dimensions that a permute, transpose or t leaves, counted from the front."""
    rank = len(shape_of(node))
    if node.target is aten.permute.default:
        return [dim % rank for dim in _dims(node)]
    order = list(range(rank))
    if rank > 1:
        first, second = (0, 1) if node.target is aten.t.default else (dim % rank for dim in _pair(node))
        order[first], order[second] = order[second], order[first]
    return order


def _dims(node: Node) -> Sequence[int]:
    dims: Sequence[int] = node.args[1]  # type: ignore[assignment]
    return dims


def _pair(node: Node) -> tuple[int, int]:
    found = arguments_of(node)
    return found["dim0"], found["dim1"]


def _neutral(number: float) -> _Rule:
    """Drop an operator whose second argument is the number that has no effect."""

    def rule(node: Node, emit: Emitter) -> Node | None:
        left, right = node.args[:2]
        if not isinstance(left, Node) or isinstance(right, (Node, bool)) or right != number:
            return None
        # Adding 0 turns -0 into 0, which nothing but a division by it could tell.
        return left if dtype_of(left) == dtype_of(node) else None

    return rule


_RULES: dict[Any, _Rule] = {
    **dict.fromkeys(Canonicalize.operators, _drop_if_same_type),
    aten.view.default: _view,
    aten._unsafe_view.default: _view,
    aten.dropout.default: _dropout,
    aten.constant_pad_nd.default: _pad,
    aten.as_strided.default: _as_strided,
    aten.repeat.default: _repeat,
    aten.cat.default: _cat,
    aten.copy.default: _copy,
    aten.permute.default: _permute,
    aten.transpose.int: _permute,
    aten.t.default: _permute,
    aten.add.Tensor: _neutral(0),
    aten.sub.Tensor: _neutral(0),
    aten.mul.Tensor: _neutral(1),
    aten.div.Tensor: _neutral(1),
}

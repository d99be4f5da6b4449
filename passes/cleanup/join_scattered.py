"""A tensor that is filled slice by slice is a concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten
_EMPTY = (aten.empty.memory_format, aten.empty_permuted.default, aten.empty_like.default)


@register
@dataclass(frozen=True)
class JoinScattered(RewritePass):
    """Write an empty tensor that is filled by `slice_scatter` as `cat`.

    What:
        ``out = torch.empty_like(x); out[..., 0::2] = a; out[..., 1::2] = b``, as rotary embeddings are written, copies
        the whole tensor once for each assignment. Where the assignments cover every position once, in runs side by
        side or each every n-th position, the result is one concatenation, and the empty tensor is not needed.

    Given::

        empty = empty.memory_format([2, 8])                          f32[2, 8]
        one = slice_scatter(empty, a, 1, 0, 8, 2)                    f32[2, 8]
        two = slice_scatter(one, b, 1, 1, 8, 2)                      f32[2, 8]

    Result::

        unsqueeze = unsqueeze(a, 2)                                  f32[2, 4, 1]
        unsqueeze_1 = unsqueeze(b, 2)                                f32[2, 4, 1]
        cat = cat([unsqueeze, unsqueeze_1], 2)                       f32[2, 4, 2]
        two = reshape(cat, [2, 8])                                   f32[2, 8]

    Exactness:
        Exact, bit by bit.
    """

    operators: ClassVar[Operators] = (aten.slice_scatter.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The concatenation that a chain of assignments ending here makes, or None."""
        if any(user.target is aten.slice_scatter.default and user.args[0] is node for user in node.users):
            return None
        pieces = _pieces(node)
        if pieces is None:
            return None
        shape = shape_of(node)
        dim = pieces[0].dim
        extents = {len(piece.places) for piece in pieces}
        if all(piece.places.step == 1 for piece in pieces):
            pieces = sorted(pieces, key=lambda piece: piece.places.start)
            if [place for piece in pieces for place in piece.places] == list(range(shape[dim])):
                return emit(aten.cat.default, [piece.source for piece in pieces], dim)
        elif len(extents) == 1 and all(piece.places.step == len(pieces) for piece in pieces):
            pieces = sorted(pieces, key=lambda piece: piece.places.start)
            if [piece.places.start for piece in pieces] == list(range(len(pieces))):
                columns = [emit(aten.unsqueeze.default, piece.source, dim + 1) for piece in pieces]
                return emit(aten.reshape.default, emit(aten.cat.default, columns, dim + 1), list(shape))
        return None


@dataclass(frozen=True)
class _Piece:
    """An assignment: what is written, along which dimension, and where."""

    source: Node
    dim: int
    places: range


def _pieces(node: Node) -> Sequence[_Piece] | None:
    """The assignments of a chain that begins at an empty tensor, if they go along one dimension and cover it once."""
    shape = shape_of(node)
    found: list[_Piece] = []
    at = node
    while at.target is aten.slice_scatter.default:
        held = arguments_of(at)
        dim = held["dim"] % len(shape)
        places = range(*slice(held["start"], held["end"], held["step"]).indices(shape[dim]))
        source = held["src"]
        if dtype_of(source) != dtype_of(node):
            return None
        found.append(_Piece(source, dim, places))
        at = held["self"]
    total = sum(len(piece.places) for piece in found)
    same = len({piece.dim for piece in found}) == 1
    return found if at.target in _EMPTY and same and total == shape[found[0].dim] else None

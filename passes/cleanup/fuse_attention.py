"""Attention recovered from its parts, so that no score matrix need ever be stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import Operators, Refusal, Replacement, RewritePass, register
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of

aten = torch.ops.aten

_PRODUCTS = (aten.matmul.default, aten.bmm.default)
_SOFTMAX = (aten.softmax.int, aten._softmax.default)


@register
@dataclass(frozen=True)
class FuseAttention(RewritePass):
    """Recognise softmax(query · keyᵀ · scale + mask) · value and make it one operator.

    What:
        ONNX files and hand-written models hold attention as two products around a softmax. Scores may be scaled by
        numbers and shifted by one mask; the softmax may run in float32 and may be guarded against rows that are masked
        throughout (``where(isnan(p), 0, p)``), which the fused operator does as well.

    Given::

        kt = permute(k, [0, 1, 3, 2])                    f32[1, 4, 16, 64]
        scores = matmul(q, kt)                           f32[1, 4, 64, 64]
        scaled = mul(scores, 0.25)                       f32[1, 4, 64, 64]
        softmax = softmax.int(scaled, -1)                f32[1, 4, 64, 64]
        out = matmul(softmax, v)                         f32[1, 4, 64, 16]

    Result::

        out_permute = permute(kt, [0, 1, 3, 2])          f32[1, 4, 64, 16]
        out = scaled_dot_product_attention(q, out_permute, v, scale=0.25)    f32[1, 4, 64, 16]

    Exactness:
        Exact up to rounding: scores are scaled and summed in another order.
    """

    operators: ClassVar[Operators] = _PRODUCTS

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        """The fused operator in place of the second product, if `node` is one."""
        probabilities, value = node.args[:2]
        softmax = _softmax_behind(probabilities)
        if softmax is None or not isinstance(value, Node):
            return None
        found = _scores_behind(softmax)
        if isinstance(found, Refusal):
            return found
        shared = _shared(probabilities, softmax, found)
        if shared is not None:
            return Refusal(f"'{shared.name}' is used by more than the attention, so the scores must be stored anyway")
        query, key = found.query, found.transposed_key
        lead = shape_of(query)[:-2]
        if len(lead) < 1 or shape_of(key)[:-2] != lead or shape_of(value)[:-2] != lead:
            return Refusal("query, key and value have different batch dimensions")
        dtypes = {dtype_of(query), dtype_of(key), dtype_of(value), dtype_of(node)}
        if len(dtypes) != 1:
            return Refusal("query, key and value have different dtypes")
        order = [*range(len(lead)), len(lead) + 1, len(lead)]
        key = emit(aten.permute.default, key, order)
        mask = found.mask
        if mask is not None and dtype_of(mask) != dtype_of(query):
            mask = emit(aten._to_copy.default, mask, dtype=dtype_of(query))
        arguments = (query, key, value) if mask is None else (query, key, value, mask)
        return emit(aten.scaled_dot_product_attention.default, *arguments, scale=found.scale)


@dataclass
class _Scores:
    """What the scores are made of; `chain` holds the nodes between the first product and the softmax."""

    query: Node
    transposed_key: Node
    scale: float
    mask: Node | None
    chain: list[Node] = field(default_factory=list)


def _softmax_behind(node: object) -> Node | None:
    """The softmax over the last dimension that `node` is, through casts and the guard against NaN."""
    while isinstance(node, Node) and node.op == "call_function":
        if node.target in _SOFTMAX:
            dim = arguments_of(node)["dim"]
            return node if dim % len(shape_of(node)) == len(shape_of(node)) - 1 else None
        if node.target is aten._to_copy.default:
            node = node.args[0]
        elif node.target is aten.where.self and _is_guard(node):
            node = node.args[2]
        else:
            return None
    return None


def _is_guard(node: Node) -> bool:
    condition, _, kept = node.args
    return isinstance(condition, Node) and condition.target is aten.isnan.default and condition.args[0] is kept


def _scores_behind(softmax: Node) -> _Scores | Refusal:
    """Walk from the softmax back to the first product."""
    scale, mask = 1.0, None
    chain: list[Node] = []
    node = softmax.args[0]
    while isinstance(node, Node) and node.op == "call_function":
        chain.append(node)
        if node.target in _PRODUCTS:
            query, key = node.args[:2]
            assert isinstance(query, Node)
            assert isinstance(key, Node)
            return _Scores(query, key, scale, mask, chain)
        if node.target is aten._to_copy.default:
            node = node.args[0]
        elif node.target in (aten.mul.Tensor, aten.div.Tensor) and isinstance(node.args[1], (int, float)):
            factor = float(node.args[1])
            if factor == 0 or not math.isfinite(factor):
                return Refusal(f"the scores are scaled by {factor}")
            scale *= factor if node.target is aten.mul.Tensor else 1 / factor
            node = node.args[0]
        elif node.target is aten.add.Tensor and mask is None and scale == 1.0 and "alpha" not in node.kwargs:
            sides = [side for side in node.args[:2] if isinstance(side, Node)]
            behind = [side for side in sides if _leads_to_product(side)]
            if len(sides) != 2 or len(behind) != 1:
                return Refusal("the softmax is not over a product plus a mask")
            (node,) = behind
            mask = sides[1 - sides.index(node)]
            if shape_of(chain[-1]) != shape_of(node):
                return Refusal("the mask has more dimensions than the scores")
        else:
            return Refusal(f"'{node.name}' between the product and the softmax is neither a scale nor a mask")
    return Refusal("the softmax is not over a product")


def _leads_to_product(node: Node) -> bool:
    while node.op == "call_function" and node.target in (aten.mul.Tensor, aten.div.Tensor, aten._to_copy.default):
        if len(node.args) > 1 and isinstance(node.args[1], Node):
            return False
        node = node.args[0]  # type: ignore[assignment]
    return node.op == "call_function" and node.target in _PRODUCTS


def _shared(probabilities: object, softmax: Node, found: _Scores) -> Node | None:
    """The first value between the products that something else reads too."""
    assert isinstance(probabilities, Node)
    between = {*found.chain, softmax}
    node = probabilities
    while node is not softmax:
        between.add(node)
        if node.target is aten.where.self:
            between.add(node.args[0])  # type: ignore[arg-type]
            node = node.args[2]  # type: ignore[assignment]
        else:
            node = node.args[0]  # type: ignore[assignment]
    end = next(iter(probabilities.users))
    for node in sorted(between):
        if any(user not in between and user is not end for user in node.users):
            return node
    return None

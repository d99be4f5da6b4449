"""The form of a graph that is easiest to cut, and back.

Every value is one tensor: splits are slices, batch norms give just what they normalise. Padding that repeats or mirrors
the border is a concatenation of positions, of which each part joins those it needs, and so is a value of which some
positions are replaced. A group norm is its two halves, because normalising goes position by position once the
statistics are known. Where both halves end up in one graph they become a group norm again. Boolean masks of attention
are numbers to add, as back ends take them, and an instance norm is a group norm. Causal attention is told the positions
of its queries; where it has all of them it needs no telling, and where it has some, its part of the mask is made of
them, so that one graph serves all parts. Attention over joined streams is one for each (`streams.py`).
"""

from __future__ import annotations

import math
import operator

import torch
from torch.fx import GraphModule, Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.base import RewritePass
from penstock.passes.core.ops import CAUSAL_ATTENTION, GROUP_NORMALIZE, GROUP_STATS
from penstock.passes.core.rewriter import Rewriter
from penstock.passes.core.shapes import dtype_of, shape_of
from penstock.passes.legalize.attention_mask import BooleanAttentionMask
from penstock.passes.legalize.instance_norm import InstanceNormToGroupNorm
from penstock.passes.slicing.layouts import stored_as_read
from penstock.passes.slicing.streams import taken_apart

aten = torch.ops.aten
_SPLITS = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int)
_MIRRORED = (aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
_REPEATED = (aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
_FORMS: tuple[RewritePass, ...] = (BooleanAttentionMask(), InstanceNormToGroupNorm())
"""Of what back ends take: the bytes of these forms are to be counted, and cut."""
_WIDEST = 8  # positions of padding on one side, such as of convolutions; those of spectrograms are hundreds
_MADE_BY = "feature-slicing"


def prepared(module: GraphModule) -> GraphModule:
    """The graph in the form that is easiest to cut."""
    edit = Rewriter(module, made_by=_MADE_BY)
    for node in edit.nodes(*_SPLITS):
        _replace_split(edit, node)
    for node in edit.nodes(aten._native_batch_norm_legit_no_training.default):
        _replace_batch_norm(edit, node)
    for node in edit.nodes(*_MIRRORED, *_REPEATED):
        _replace_padding(edit, node)
    for node in edit.nodes(aten.slice_scatter.default):
        _replace_scatter(edit, node)
    for each in _FORMS:
        for node in edit.nodes(*each.operators):
            made = each.rewrite(node, edit.at(node))
            if isinstance(made, Node):
                edit.replace(node, made)
    for node in edit.nodes(aten.group_norm.default):
        held = arguments_of(node)
        emit = edit.at(node)
        stats = emit(GROUP_STATS, held["input"], held["num_groups"])
        edit.replace(node, emit(GROUP_NORMALIZE, held["input"], stats, held["weight"], held["bias"], held["eps"]))
    for node in edit.nodes(aten.scaled_dot_product_attention.default):
        held = arguments_of(node)
        if held["is_causal"] and held["attn_mask"] is None and not held["dropout_p"]:
            emit = edit.at(node)
            positions = emit(aten.arange.start_step, 0, shape_of(held["query"])[-2])
            operands = [held[name] for name in ("query", "key", "value")]
            edit.replace(node, emit(CAUSAL_ATTENTION, *operands, positions, held["scale"], held["enable_gqa"]))
    taken_apart(edit)
    stored_as_read(edit)
    return edit.finish() if edit.changed else module


def _replace_split(edit: Rewriter, node: Node) -> None:
    held = arguments_of(node)
    for user in list(node.users):
        if user.target is not operator.getitem:
            return
    starts, at = [], 0
    for value in node.meta["val"]:
        starts.append(at)
        at += 1 if node.target is aten.unbind.int else int(value.shape[held["dim"]])
    for user in list(node.users):
        index = int(user.args[1])  # type: ignore[arg-type]
        start, stop = starts[index], [*starts[1:], at][index]
        emit = edit.at(user)
        if node.target is aten.unbind.int:
            edit.replace(user, emit(aten.select.int, held["self"], held["dim"], start))
        else:
            edit.replace(user, emit(aten.slice.Tensor, held["self"], held["dim"], start, stop))


def _replace_scatter(edit: Rewriter, node: Node) -> None:
    """A value in which neighbouring positions are replaced is those before them, the new ones, and those behind."""
    held, emit = arguments_of(node), edit.at(node)
    dim = held["dim"] % len(shape_of(node))
    start, stop, step = slice(held["start"], held["end"], held["step"]).indices(shape_of(node)[dim])
    if step != 1 or stop <= start:
        return
    around = ((0, start), None, (stop, shape_of(node)[dim]))
    pieces = [
        held["src"] if part is None else emit(aten.slice.Tensor, held["self"], dim, *part)
        for part in around
        if part is None or part[0] < part[1]
    ]
    edit.replace(node, emit(aten.cat.default, pieces, dim) if len(pieces) > 1 else held["src"])


def _replace_batch_norm(edit: Rewriter, node: Node) -> None:
    """Without the statistics, which nothing uses that does not train."""
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users):
        return
    x, weight, bias, mean, variance, momentum, eps = node.args
    for user in list(node.users):
        args = (x, weight, bias, mean, variance, False, momentum, eps, False)
        edit.replace(user, edit.at(user)(aten.batch_norm.default, *args))


def _replace_padding(edit: Rewriter, node: Node) -> None:
    """Each padded dimension is joined from the positions before the border, the whole, and those behind it."""
    held = arguments_of(node)
    padding, emit = held["padding"], edit.at(node)
    step = 1 if node.target in _MIRRORED else 0
    if min(padding) < 0 or max(padding) > _WIDEST:
        return  # it cuts off, or would be joined from more pieces than one kernel takes
    value: Node = held["self"]
    for place in range(0, len(padding), 2):
        dim = len(shape_of(node)) - 1 - place // 2
        before, after = padding[place : place + 2]
        last = shape_of(value)[dim] - 1
        inside = [*(step * k for k in range(before, 0, -1)), None, *(last - step * k for k in range(1, after + 1))]
        pieces = [value if at is None else emit(aten.slice.Tensor, value, dim, at, at + 1) for at in inside]
        value = emit(aten.cat.default, pieces, dim) if len(pieces) > 1 else value
    edit.replace(node, value)


def restored(module: GraphModule) -> GraphModule:
    """The graph in operators that back ends know: what was taken apart is together again where all of it is there."""
    edit = Rewriter(module, made_by=_MADE_BY)
    for node in edit.nodes(GROUP_NORMALIZE):
        x, stats, weight, bias, eps = node.args
        if isinstance(stats, Node) and stats.target is GROUP_STATS and stats.args[0] is x and len(stats.users) == 1:
            groups = stats.args[1]
            edit.replace(node, edit.at(node)(aten.group_norm.default, x, groups, weight, bias, eps))
    for node in edit.nodes(aten.batch_norm.default):
        x, weight, bias, mean, variance, training, momentum, eps, _ = arguments_of(node).values()
        if not training:
            emit = edit.at(node)
            args = (x, weight, bias, mean, variance, momentum, eps)
            made = emit(aten._native_batch_norm_legit_no_training.default, *args)
            edit.replace(node, emit(operator.getitem, made, 0))
    for node in edit.nodes(CAUSAL_ATTENTION):
        _restore_attention(edit, node)
    return edit.finish() if edit.changed else module


def _restore_attention(edit: Rewriter, node: Node) -> None:
    query, key, value, positions, scale, grouped = node.args
    assert isinstance(query, Node)
    assert isinstance(key, Node)
    assert isinstance(positions, Node)
    emit = edit.at(node)
    whole = positions.target is aten.arange.start_step
    mask = None
    if not whole:
        rows = emit(aten.unsqueeze.default, positions, 1)
        seen = emit(aten.ge.Tensor, rows, emit(aten.arange.start_step, 0, shape_of(key)[-2]))
        # Added, not selected: kernels would turn a boolean mask into this one, in memory that no plan counts.
        zero, never = (emit(aten.full.default, [], number, dtype=dtype_of(query)) for number in (0.0, -math.inf))
        mask = emit(aten.where.self, seen, zero, never)
    attention = emit(
        aten.scaled_dot_product_attention.default,
        query,
        key,
        value,
        mask,
        0.0,
        whole,
        scale=scale,
        enable_gqa=grouped,
    )
    edit.replace(node, attention)

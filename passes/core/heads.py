"""Heads of keys and values that several heads of queries share."""

from __future__ import annotations

import torch
from torch.fx import Node

from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


def repeat_heads(emit: Emitter, x: Node, heads: int) -> Node:
    """Keys or values, [*batch, own, tokens, width], with each of their heads once for every head of the queries."""
    *batch, own, tokens, width = shape_of(x)
    if own == heads:
        return x
    copies = emit(aten.unsqueeze.default, x, len(batch) + 1)
    copies = emit(aten.expand.default, copies, [*batch, own, heads // own, tokens, width])
    return emit(aten.reshape.default, copies, [*batch, heads, tokens, width])

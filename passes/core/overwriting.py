"""Which results can be written where an operand lies: the one definition for all that count, place or run.

A pointwise operator reads every element just to write the one at its own place. So its result may take over the memory
of an operand of the same shape and dtype that nothing needs later. A kernel made of several operators stores nothing
between them, which comes to the same bytes: a linear layer with its activation needs the linear layer's result once.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cache

import torch
from torch._ops import OpOverload
from torch.fx import Node

from penstock.passes.core.aliases import Buffer, buffer_of, is_view
from penstock.passes.core.shapes import nbytes, value_of


@cache
def out_variant(target: OpOverload) -> OpOverload | None:
    """The overload of a pointwise operator that writes to a tensor that it is given; None where there is none."""
    if torch.Tag.pointwise not in target.tags:
        return None
    wanted = [(argument.name, str(argument.type)) for argument in target._schema.arguments]
    packet = target.overloadpacket
    for name in packet.overloads():
        arguments = getattr(packet, name)._schema.arguments
        given = [(argument.name, str(argument.type)) for argument in arguments if not argument.is_out]
        if given == wanted and len(arguments) == len(wanted) + 1:
            return getattr(packet, name)  # type: ignore[no-any-return]
    return None


def overwritable(node: Node) -> tuple[Node, ...]:
    """The operands whose memory the result of an operator may take over where they die at it, the first the best."""
    if node.op != "call_function" or not isinstance(node.target, OpOverload) or out_variant(node.target) is None:
        return ()
    result = value_of(node)
    held = {operand: buffer_of(operand) for operand in node.all_input_nodes}
    return tuple(
        operand
        for operand, buffer in held.items()
        if buffer is not None
        and _is_like(operand, buffer, result)
        and buffer.bytes == nbytes(result)
        and list(held.values()).count(buffer) == 1
    )


def _is_like(operand: Node, buffer: Buffer, result: torch.Tensor) -> bool:
    """Whether equal places are equal bytes, in PyTorch as well as where every value lies dense row by row.

    A permuted view of a value that PyTorch stores permuted is neither.
    """
    value, base = value_of(operand), value_of(buffer.node)
    base = base if isinstance(base, torch.Tensor) else base[buffer.index]
    return (
        isinstance(value, torch.Tensor)
        and value.shape == result.shape
        and value.dtype == result.dtype
        and value.stride() == result.stride()
        and (not is_view(operand) or (value.is_contiguous() and base.is_contiguous()))
    )


def takeovers(
    nodes: Sequence[Node], last: Mapping[Buffer, int], kept: Container[Buffer] = frozenset(), start: int = 0
) -> dict[Node, Node]:
    """The results that take over the memory of an operand, with that operand.

    Args:
        nodes: the operators in order.
        last: for each buffer, the index of the last operator that needs it.
        kept: buffers that are needed afterwards, or that are not ours to write to.
        start: the index of the first operator.
    """
    found: dict[Node, Node] = {}
    for index, node in enumerate(nodes, start):
        for operand in overwritable(node):
            buffer = buffer_of(operand)
            if buffer is not None and last[buffer] == index and buffer not in kept:
                found[node] = operand
                break
    return found

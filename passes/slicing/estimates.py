"""How long an operator takes, roughly: enough to compare plans with each other."""

from __future__ import annotations

from torch.fx import Node

from penstock.passes.analysis.cost import node_flops, node_moved_bytes

LAUNCH = 2e-5  # seconds to start an operator
BYTES_PER_SECOND = 20e9
_FLOPS_PER_SECOND = 500e9


def seconds_of(node: Node) -> float:
    """By the roofline of a phone's processor: what takes longer, the arithmetic or the bytes."""
    return max(node_flops(node) / _FLOPS_PER_SECOND, node_moved_bytes(node) / BYTES_PER_SECOND)


def part_seconds(flops: int, moved_bytes: int, share: float, whole_bytes: int) -> float:
    """Of a part of an operator's result: what each part needs whole, such as weights, each part reads again.

    Args:
        flops, moved_bytes: of the operator.
        share: of the result.
        whole_bytes: of what each part needs whole.
    """
    again = min(whole_bytes, moved_bytes)
    return max(share * flops / _FLOPS_PER_SECOND, (share * (moved_bytes - again) + again) / BYTES_PER_SECOND)


def is_cheap(node: Node) -> bool:
    """Whether the bytes take longer than the arithmetic."""
    return node_flops(node) / _FLOPS_PER_SECOND <= node_moved_bytes(node) / BYTES_PER_SECOND

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


def is_cheap(node: Node) -> bool:
    """Whether the bytes take longer than the arithmetic."""
    return node_flops(node) / _FLOPS_PER_SECOND <= node_moved_bytes(node) / BYTES_PER_SECOND

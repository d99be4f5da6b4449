"""What a pass may know besides the Program, and where it says what it declined."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch.fx import Node

from penstock.passes.core.source import source_of


@dataclass(frozen=True)
class Declined:
    """One node that a pass looked at and left alone, and why."""

    pass_name: str
    node: str
    source: str
    reason: str

    def __str__(self) -> str:
        place = f" ({self.source})" if self.source else ""
        return f"{self.pass_name}: '{self.node}'{place}: {self.reason}"


@dataclass
class Context:
    """Settings of one pipeline run, and what its passes report.

    Attributes:
        target: the name of the device the Program is optimised for, or None.
        memory_budget: bytes for weights and activations together, or None for no limit.
        largest_allocation: bytes that no single value may exceed on the device, or None for no limit.
        seed: for every pass that draws random numbers.
        declined: what passes looked at and left alone.
    """

    target: str | None = None
    memory_budget: int | None = None
    largest_allocation: int | None = None
    seed: int = 0
    declined: list[Declined] = field(default_factory=list)

    def decline(self, pass_name: str, node: Node, reason: str) -> None:
        """Record that a pass left a node alone."""
        self.declined.append(Declined(pass_name, node.name, source_of(node), reason))

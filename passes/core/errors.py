"""The one exception tree. Every error says what was expected, where, and what to do next.

The CLI prints `str(error)` on one or a few lines and exits with `exit_code`; a library user catches `PenstockError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class PenstockError(Exception):
    """Base of all errors that penstock raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(PenstockError):
    """Bad input: an unknown name, a wrong option, a damaged file, a wrong shape or dtype."""

    exit_code = 2


class CaptureError(PenstockError):
    """The model could not be captured as a functional, static graph."""

    exit_code = 2


class VerificationError(PenstockError):
    """Two runs that must agree do not."""

    exit_code = 4


class BudgetError(PenstockError):
    """The memory budget cannot be met; the message holds the floor reached and the tensors that hold it.

    Attributes:
        excess: bytes that a launch plan needs beyond the budget, though less was planned; 0 where that is not why.
    """

    exit_code = 5

    def __init__(self, message: str, excess: int = 0) -> None:
        super().__init__(message)
        self.excess = excess


class MissingToolError(PenstockError):
    """A compiler, a library or a Python package that this step needs is not there."""

    exit_code = 6


class InvalidProgramError(PenstockError):
    """A graph or plan breaks a rule of the dialect. A fault of a pass or a front end, not of the user."""


@dataclass(frozen=True)
class Unsupported:
    """One operator that a front end or back end cannot take.

    Attributes:
        operator: the operator's name, e.g. ``aten.grid_sampler_2d.default`` or ``ai.onnx.LSTM``.
        nodes: the names of all nodes that use it.
        sources: where the user's model made them (``file.py:12 in forward``), as far as known, without repeats.
        advice: the nearest way out.
    """

    operator: str
    nodes: tuple[str, ...]
    sources: tuple[str, ...]
    advice: str


class UnsupportedOperatorError(PenstockError):
    """All unsupported operators of a model at once."""

    exit_code = 3

    def __init__(self, where: str, unsupported: Sequence[Unsupported]) -> None:
        self.unsupported = tuple(unsupported)
        lines = [f"{where} does not support {len(unsupported)} operator(s) of this model:"]
        for item in self.unsupported:
            lines.append(f"  {item.operator}  × {len(item.nodes)}  ({_some(item.nodes)})")
            lines.extend(f"      from {source}" for source in item.sources[:3])
            lines.append(f"      way out: {item.advice}")
        super().__init__("\n".join(lines))


def _some(names: Sequence[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … {len(names) - limit} more"

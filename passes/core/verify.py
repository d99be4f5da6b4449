"""Comparing numbers: outputs against outputs, and the first value at which two Programs part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core import reference
from penstock.passes.core.errors import VerificationError
from penstock.passes.core.program import Program
from penstock.passes.core.shapes import dtype_name
from penstock.passes.core.source import module_of, source_of

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest error that counts as rounding, relative to the largest value of the expected tensor (at least 1)."""


@dataclass(frozen=True)
class Difference:
    """How far one tensor is from what was expected.

    Attributes:
        max_error: largest absolute difference; infinite where one side is NaN or infinite and the other is not.
        mean_error: mean absolute difference.
        scale: largest finite magnitude expected; at least 1 unless the comparison said otherwise.
        tolerance: the largest `max_error / scale` that passes.
    """

    name: str
    max_error: float
    mean_error: float
    scale: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference counts as rounding."""
        return self.max_error <= self.tolerance * self.scale

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "TOO FAR"
        return (
            f"{self.name}: max error {self.max_error:.2e} of {self.scale:.3g} "
            f"(mean {self.mean_error:.1e}, allowed {self.tolerance * self.scale:.1e}) {verdict}"
        )


def compare(
    name: str,
    expected: torch.Tensor,
    actual: torch.Tensor,
    tolerance: float | None = None,
    least_scale: float = 1.0,
) -> Difference:
    """Measure how far `actual` is from `expected`; exact equality is asked for integers and booleans.

    Args:
        tolerance: relative to the largest finite magnitude of `expected`; by default that of the dtypes.
        least_scale: what takes its place where `expected` is smaller.
    """
    if expected.shape != actual.shape:
        raise VerificationError(f"{name}: expected the shape {tuple(expected.shape)}, got {tuple(actual.shape)}")
    if tolerance is None:
        tolerance = max(TOLERANCE.get(expected.dtype, 0.0), TOLERANCE.get(actual.dtype, 0.0))
    if expected.numel() == 0:
        return Difference(name, 0.0, 0.0, 1.0, tolerance)
    wide = torch.complex128 if expected.is_complex() else torch.float64
    left, right = expected.detach().to("cpu", wide), actual.detach().to("cpu", wide)
    finite = torch.isfinite(left)
    same_special = (left == right) | (torch.isnan(left) & torch.isnan(right))
    error = torch.where(same_special, 0.0, (left - right).abs())
    error = torch.where(torch.isnan(error), torch.inf, error)
    scale = max(least_scale, float(left[finite].abs().max())) if bool(finite.any()) else 1.0
    return Difference(name, float(error.max()), float(error.mean()), scale, tolerance)


def compare_outputs(
    program: Program, expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor], tolerance: float | None = None
) -> list[Difference]:
    """`compare` for every output of a Program."""
    names = [spec.name for spec in program.signature.outputs]
    return [compare(*item, tolerance) for item in zip(names, expected, actual, strict=True)]


def first_divergence(before: Program, after: Program, inputs: Sequence[torch.Tensor]) -> str | None:
    """The first value of `after`, in execution order, that differs from the value of the same name in `before`.

    A pass keeps the names of the values it keeps, so this is where its fault shows first. Returns one line that names
    the node, the error, the module and the source line, or None when no shared value differs.
    """
    known: dict[tuple[str, str], torch.Tensor] = {}

    def remember(graph: str, node: Node, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            known[graph, node.name] = value

    found: list[str] = []

    def look(graph: str, node: Node, value: Any) -> None:
        expected = known.get((graph, node.name))
        if found or not isinstance(value, torch.Tensor) or expected is None or expected.shape != value.shape:
            return
        difference = compare(f"'{node.name}' in graph '{graph}'", expected, value)
        if not difference.ok:
            place = " · ".join(part for part in (module_of(node), source_of(node)) if part)
            found.append(f"{difference} [{dtype_name(value.dtype)}] {place}")

    reference.run(before, inputs, remember)
    reference.run(after, inputs, look)
    return found[0] if found else None

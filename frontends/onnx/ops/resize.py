"""Resize, and sampling at given coordinates.

Where torch's own interpolation picks the same elements with the same weights, it is used. Every other form of Resize
(other coordinate rules, cubic coefficients, antialiasing, regions) is linear along each axis, so it becomes a selection
or a product with a constant matrix, axis by axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op

_TORCH_CUBIC = -0.75
_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_NEAREST: dict[str, Callable[[Any], Any]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
}


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized: from `extent` to `size` elements, within a region given in fractions of the axis."""

    extent: int
    size: int
    scale: float
    region: tuple[float, float]

    @property
    def kept(self) -> bool:
        return self.extent == self.size and self.scale == 1.0

    @property
    def plain(self) -> bool:
        """Whether the scale is the ratio of the extents, as torch has it when it is told the size."""
        return math.isclose(self.scale, self.size / self.extent, rel_tol=1e-6)

    def coordinates(self, rule: str) -> np.ndarray:
        """Where each element of the result lies on the input axis."""
        places = np.arange(self.size, dtype=np.float64)
        if rule == "half_pixel" or (rule == "pytorch_half_pixel" and self.size > 1):
            return (places + 0.5) / self.scale - 0.5
        if rule == "half_pixel_symmetric":
            adjustment = self.size / (self.scale * self.extent)
            return self.extent / 2 * (1 - adjustment) + (places + 0.5) / self.scale - 0.5
        if rule == "pytorch_half_pixel":
            return np.zeros(1)
        if rule == "asymmetric":
            return places / self.scale
        if rule == "align_corners":
            length = self.scale * self.extent  # not always whole: ONNX means the length before it is rounded down
            return places * (self.extent - 1) / (length - 1) if length != 1 else np.zeros(self.size)
        if rule == "tf_crop_and_resize":
            start, end = self.region
            if self.size == 1:
                return np.full(1, (start + end) / 2 * (self.extent - 1))
            return start * (self.extent - 1) + places * (end - start) * (self.extent - 1) / (self.size - 1)
        raise UnsupportedFormError(f"its coordinate_transformation_mode '{rule}' is not known")

    def nearest(self, rule: str, rounding: str) -> np.ndarray:
        """Which element of the input each element of the result copies."""
        picks: np.ndarray = np.clip(_NEAREST[rounding](self.coordinates(rule)), 0, self.extent - 1).astype(np.int64)
        return picks

    def torch_nearest(self) -> np.ndarray:
        """Which elements `interpolate(mode="nearest")` copies; it reckons in float32."""
        places = np.arange(self.size, dtype=np.float32) * np.float32(self.extent / self.size)
        picks: np.ndarray = np.minimum(np.floor(places), self.extent - 1).astype(np.int64)
        return picks


@onnx_op("Resize")
def resize(
    x: Tensor,
    roi: tuple[float, ...] | None = None,
    scales: tuple[float, ...] | None = None,
    sizes: tuple[int, ...] | None = None,
    *,
    antialias: int = 0,
    axes: tuple[int, ...] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = _TORCH_CUBIC,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Resize axes by `scales` or to `sizes`, by nearest, linear or cubic interpolation."""
    rule = coordinate_transformation_mode
    named = [axis % x.dim() for axis in axes] if axes is not None else list(range(x.dim()))
    region = (roi or None) if rule == "tf_crop_and_resize" else None
    plan = _plan(x, named, region, scales or None, sizes or None, keep_aspect_ratio_policy)
    if mode == "nearest":
        return _nearest(x, plan, rule, nearest_mode)
    simple = rule in ("half_pixel", "align_corners") or (
        rule == "pytorch_half_pixel" and all(axis.size > 1 or axis.kept for axis in plan)
    )
    spatial = all(axis.kept for axis in plan[:2]) and all(axis.plain for axis in plan)
    name = _LINEAR.get(x.dim()) if mode == "linear" else "bicubic" if x.dim() == 4 else None
    torch_has_it = not antialias and not exclude_outside and (mode == "linear" or cubic_coeff_a == _TORCH_CUBIC)
    if simple and spatial and torch_has_it and name is not None:
        wanted = [axis.size for axis in plan[2:]]
        return F.interpolate(x, wanted, mode=name, align_corners=rule == "align_corners")
    for dim, axis in enumerate(plan):
        if not axis.kept or region is not None:
            matrix = _weights(axis, rule, mode, cubic_coeff_a, bool(antialias), bool(exclude_outside))
            weights = torch.tensor(matrix.tolist(), dtype=x.dtype)
            x = torch.matmul(x.movedim(dim, -1), weights.t()).movedim(-1, dim)
    if region is not None:
        x = _extrapolated(x, plan, rule, extrapolation_value)
    return x


def _plan(
    x: Tensor,
    named: list[int],
    region: tuple[float, ...] | None,
    scales: tuple[float, ...] | None,
    sizes: tuple[int, ...] | None,
    policy: str,
) -> list[_Axis]:
    plan = [_Axis(extent, extent, 1.0, (0.0, 1.0)) for extent in x.shape]
    if scales is None and sizes is None:
        raise UnsupportedFormError("it has neither scales nor sizes")
    common = None
    if scales is None and policy != "stretch":
        ratios = [size / x.shape[axis] for axis, size in zip(named, sizes or (), strict=True)]
        common = min(ratios) if policy == "not_larger" else max(ratios)
    for position, axis in enumerate(named):
        extent = x.shape[axis]
        part = (region[position], region[len(named) + position]) if region is not None else (0.0, 1.0)
        if scales is not None:
            scale = scales[position]
            size = math.floor(extent * (part[1] - part[0]) * scale)
        elif common is not None:
            scale, size = common, math.floor(common * extent + 0.5)
        else:
            assert sizes is not None
            size = sizes[position]
            scale = size / extent
        plan[axis] = _Axis(extent, size, scale, part)
    return plan


def _nearest(x: Tensor, plan: list[_Axis], rule: str, rounding: str) -> Tensor:
    chosen = [axis.nearest(rule, rounding) for axis in plan]
    as_torch = all((axis.torch_nearest() == picks).all() for axis, picks in zip(plan, chosen, strict=True))
    if as_torch and 3 <= x.dim() <= 5 and all(axis.extent == axis.size for axis in plan[:2]):
        return F.interpolate(x, [axis.size for axis in plan[2:]], mode="nearest")
    for dim, (axis, picks) in enumerate(zip(plan, chosen, strict=True)):
        if axis.extent != axis.size or (picks != np.arange(axis.size)).any():
            x = torch.index_select(x, dim, torch.tensor(picks.tolist(), dtype=torch.int64))
    return x


def _weights(axis: _Axis, rule: str, mode: str, cubic: float, antialias: bool, exclude_outside: bool) -> np.ndarray:
    """The matrix ``[size, extent]`` that interpolates along one axis."""
    matrix = np.zeros((axis.size, axis.extent))
    stretch = min(axis.scale, 1.0) if antialias else 1.0
    radius = (1 if mode == "linear" else 2) / stretch
    for row, place in enumerate(axis.coordinates(rule)):
        taps = np.arange(math.floor(place - radius), math.ceil(place + radius) + 1)
        values = _kernel((taps - place) * stretch, mode, cubic)
        if exclude_outside:
            values[(taps < 0) | (taps >= axis.extent)] = 0.0
        np.add.at(matrix[row], np.clip(taps, 0, axis.extent - 1), values / values.sum())
    return matrix


def _kernel(distance: np.ndarray, mode: str, cubic: float) -> np.ndarray:
    """The weight of a neighbour at a distance: a tent, or Keys's cubic (IEEE ASSP-29, 1981, equation 4)."""
    d = np.abs(distance)
    if mode == "linear":
        tent: np.ndarray = np.clip(1 - d, 0, None)
        return tent
    near = ((cubic + 2) * d - (cubic + 3)) * d * d + 1
    far = ((cubic * d - 5 * cubic) * d + 8 * cubic) * d - 4 * cubic
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _extrapolated(x: Tensor, plan: list[_Axis], rule: str, value: float) -> Tensor:
    """`x` with one value at all places that come from outside the input."""
    for dim, axis in enumerate(plan):
        places = axis.coordinates(rule)
        outside = (places < 0) | (places > axis.extent - 1)
        if outside.any():
            shape = [-1 if other == dim else 1 for other in range(x.dim())]
            x = torch.where(torch.tensor(outside.tolist()).reshape(shape), value, x)
    return x


@onnx_op("GridSample", since=16)
def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """`x` at the coordinates in `grid`, which run from -1 to 1 over each axis."""
    names = {"linear": "bilinear", "cubic": "bicubic"}  # ONNX's names from opset 20 on
    return F.grid_sample(x, grid, names.get(mode, mode), padding_mode, bool(align_corners))

"""Padding at the borders: by a constant, by reflection, by the nearest element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import te, tirx

from penstock.backends.tvm.ops.emit import Emit, Expr, Number, Var, shape_of
from penstock.backends.tvm.ops.registry import lowers

aten = torch.ops.aten


@lowers(aten.constant_pad_nd.default)
def constant_pad(emit: Emit, x: Expr, padding: Sequence[int], value: Number = 0) -> Expr:
    """A constant around the tensor. Negative padding cuts off."""
    if not any(padding):
        return x
    before = _before(padding, len(emit.shape))
    extents = shape_of(x)
    outside = tirx.const(value, emit.dtype)

    def compute(tensor: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            source = [at - offset for at, offset in zip(i, before, strict=True)]
            checks = [source[d] >= 0 for d in range(len(i)) if before[d] > 0]
            checks += [source[d] < extents[d] for d in range(len(i)) if emit.shape[d] - before[d] > extents[d]]
            return tirx.if_then_else(tirx.all(*checks), tensor(*source), outside) if checks else tensor(*source)

        return te.compute(emit.shape, element, name="pad")

    return emit.te(compute, x, name="pad")


@lowers(aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
def reflection_pad(emit: Emit, x: Expr, padding: Sequence[int]) -> Var:
    """The tensor mirrored at its border elements, which are not repeated."""

    def source(at: Any, extent: int) -> Any:
        mirrored = tirx.if_then_else(at < 0, -at, at)
        return tirx.if_then_else(mirrored >= extent, 2 * (extent - 1) - mirrored, mirrored)

    return _pad_from_inside(emit, x, padding, source, "reflection_pad")


@lowers(aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
def replication_pad(emit: Emit, x: Expr, padding: Sequence[int]) -> Var:
    """The border elements repeated outwards."""

    def source(at: Any, extent: int) -> Any:
        # Not `min` and `max`: OpenCL code for vectors of places would mix them with scalars.
        return tirx.if_then_else(at < 0, 0, tirx.if_then_else(at >= extent, extent - 1, at))

    return _pad_from_inside(emit, x, padding, source, "replication_pad")


def _pad_from_inside(emit: Emit, x: Expr, padding: Sequence[int], source: Callable[[Any, int], Any], name: str) -> Var:
    before = _before(padding, len(emit.shape))
    extents = shape_of(x)

    def compute(tensor: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            return tensor(
                *(
                    source(at - before[d], extents[d]) if extents[d] != emit.shape[d] or before[d] else at
                    for d, at in enumerate(i)
                )
            )

        return te.compute(emit.shape, element, name=name)

    return emit.te(compute, x, name=name)


def _before(padding: Sequence[int], rank: int) -> list[int]:
    """Padding in front of each dimension; torch lists pairs from the last dimension on."""
    front = list(reversed(padding[::2]))
    return [0] * (rank - len(front)) + front

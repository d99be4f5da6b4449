"""Runs: stretches of elements that lie side by side in everything that a block touches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from penstock.backends.tvm.schedules.cpu.blocks import moved
from penstock.backends.tvm.schedules.cpu.tile import flat, unravel


def is_run(block: Any, dims: Sequence[int], others: Sequence[Any] = ()) -> bool:
    """Whether a block's accesses move by one element, or not at all, from one iteration of some dimensions to the next.

    Args:
        dims: which of the block's axes, in order; all together count as one.
        others: buffers that need not be looked at.
    """
    extents = [int(axis.dom.extent) for axis in block.iter_vars]
    length = math.prod(extents[dim] for dim in dims)
    if length == 1:
        return True
    analyzer = tvm.sym.Analyzer()
    position = tirx.Var("position", "int64")
    analyzer.bind(position, tvm.ir.Range(0, length))
    within = dict(zip(dims, unravel(position, [extents[dim] for dim in dims]), strict=True))
    axes = [axis.var for axis in block.iter_vars]
    places = [within.get(dim, axis) for dim, axis in enumerate(axes)]
    for dim, axis in enumerate(axes):
        if dim not in within:
            analyzer.bind(axis, tvm.ir.Range(0, extents[dim]))
    for buffer, indices in _accesses(block.body):
        if any(buffer.same_as(other) for other in others):
            continue
        where = [moved(at, axes, places, {}) for at in indices]
        here = analyzer.simplify(flat(where, [int(extent) for extent in buffer.shape]))
        step = analyzer.simplify(tvm_ffi.structural_map(here, (tvm.ir.Var, _next(position))) - here)
        if not isinstance(step, (int, tirx.IntImm)) or int(step) not in (0, 1):
            return False
    return True


def _next(position: Any) -> Any:
    return lambda var: var + 1 if var.same_as(position) else var


def _accesses(body: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    visits = [
        (tvm.ir.TensorLoad, lambda node: found.append((node.source, node.indices))),
        (tirx.BufferStore, lambda node: found.append((node.buffer, node.indices))),
    ]
    tvm_ffi.structural_walk(body, visits)
    return found

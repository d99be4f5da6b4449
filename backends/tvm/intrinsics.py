"""Math functions as OpenCL C and Metal spell them.

For functions without a rule of their own TVM appends an ``f``, as C does (``tanf``). OpenCL C and Metal overload the
plain name for all precisions, so such a kernel would be refused on the device, where nobody sees it coming.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx

from penstock.backends.tvm.vector_math import erf, same_lanes

_PLAIN = ("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "tan")
_ABOVE_TVM = 99
_COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.EQ, tirx.NE)


@cache
def register_math_functions() -> None:
    """Tell TVM's code generators the names; once per process."""
    for kind in ("opencl", "metal"):
        for name in _PLAIN:
            _register(name, kind, name)
    _register("nearbyint", "metal", "rint")  # Metal has only the latter; both take halves to even
    # Metal has no erf, and TVM writes it as a quotient; OpenCL's costs tens of times as much.
    tirx.register_intrin_lowering("tirx.erf", target="opencl", f=lambda call: _erf(call), level=_ABOVE_TVM)


def spell_constants(function: Any) -> Any:
    """A device function whose constants survive being written as text.

    TVM writes seven digits of a number, and a float has up to nine. Of a scale that is the last bit, but the lowest
    float, by which models mask and maxima begin, would no longer be the lowest. So a sum of two numbers stands for one
    that seven digits do not tell; the compiler adds them.

    Both languages know ``INFINITY`` as a float only, and TVM writes just that: next to a half, ``select`` and ``max``
    would be ambiguous.
    """

    def spell(node: Any) -> Any:
        dtype, value = str(node.ty.dtype), float(node.value)
        if not math.isfinite(value):
            return tirx.Cast("float16", tirx.FloatImm("float32", value)) if dtype == "float16" else node
        if dtype != "float32":
            return node
        exact, written = np.float32(value), np.float32(f"{value:.6e}")
        if exact == written or not np.isfinite(written):
            return node
        return tirx.Add(tirx.FloatImm(dtype, float(written)), tirx.FloatImm(dtype, float(exact - written)))

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.FloatImm, spell)))


def spell_masks(function: Any) -> Any:
    """A device function whose choices between vectors have conditions of which every lane is 0 or -1.

    OpenCL's ``select`` looks at the highest bit of a lane. A comparison of vectors sets all bits; a flag that was
    loaded, or compared as a scalar and repeated, is 1, and would choose like 0.
    """

    def spell(node: Any) -> Any:
        lanes = tvm_ffi.dtype(str(node.condition.ty.dtype)).lanes
        if lanes == 1 or isinstance(node.condition, _COMPARISONS):
            return node
        flags = tirx.Cast(f"int32x{lanes}", node.condition)
        condition = tirx.NE(flags, tirx.Broadcast(tirx.IntImm("int32", 0), lanes))
        return tirx.Select(condition, node.true_value, node.false_value)

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.Select, spell)))


def _erf(call: Any) -> Any:
    (x,) = call.args
    return erf(x.astype(same_lanes("float32", x))).astype(call.ty.dtype)


def _register(name: str, kind: str, spelling: str) -> None:
    def lower(call: Any) -> Any:
        return tirx.call_pure_extern(call.ty, spelling, *call.args)

    tirx.register_intrin_lowering(f"tirx.{name}", target=kind, f=lower, level=_ABOVE_TVM)

"""Math functions as OpenCL C and Metal spell them.

For functions without a rule of their own TVM appends an ``f``, as C does (``tanf``). OpenCL C and Metal overload the
plain name for all precisions, so such a kernel would be refused on the device, where nobody sees it coming.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import tvm_ffi
from tvm import tirx

from penstock.backends.tvm.vector_math import erf, same_lanes

_PLAIN = ("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "tan")
_ABOVE_TVM = 99


@cache
def register_math_functions() -> None:
    """Tell TVM's code generators the names; once per process."""
    for kind in ("opencl", "metal"):
        for name in _PLAIN:
            _register(name, kind, name)
    _register("nearbyint", "metal", "rint")  # Metal has only the latter; both take halves to even
    # Metal has no erf, and TVM writes it as a quotient; OpenCL's costs tens of times as much.
    tirx.register_intrin_lowering("tirx.erf", target="opencl", f=lambda call: _erf(call), level=_ABOVE_TVM)


def spell_infinities(function: Any) -> Any:
    """A device function whose infinities in half precision say that they are such.

    Both languages know ``INFINITY`` as a float only, and TVM writes just that: next to a half, ``select`` and ``max``
    would be ambiguous.
    """

    def spell(node: Any) -> Any:
        if str(node.ty.dtype) != "float16" or math.isfinite(float(node.value)):
            return node
        return tirx.Cast("float16", tirx.FloatImm("float32", float(node.value)))

    return function.with_body(tvm_ffi.structural_map(function.body, (tirx.FloatImm, spell)))


def _erf(call: Any) -> Any:
    (x,) = call.args
    return erf(x.astype(same_lanes("float32", x))).astype(call.ty.dtype)


def _register(name: str, kind: str, spelling: str) -> None:
    def lower(call: Any) -> Any:
        return tirx.call_pure_extern(call.ty, spelling, *call.args)

    tirx.register_intrin_lowering(f"tirx.{name}", target=kind, f=lower, level=_ABOVE_TVM)

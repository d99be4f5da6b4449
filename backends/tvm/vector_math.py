"""Transcendental functions of float32 numbers as arithmetic that runs on whole vectors: for CPUs, and erf for OpenCL.

LLVM knows the C library's functions only; in a vectorised loop it calls them once per lane. The approximations here
are polynomials and quotients of polynomials, without branches or tables, so that all lanes go together. They keep to
5e-7 of the exact value, NaN stays NaN, and `exp` runs to zero and to infinity as it should.

Sources: `exp` after Moshier's Cephes library (expf.c); `erf` and `tanh` are the rational minimax approximations of
Eigen (MathFunctionsImpl.h), which TVM's ``fast_erf`` and ``fast_tanh`` use too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tvm import tirx

Expr = Any
"""A TIR expression, a number or a vector."""

_ABOVE_TVM = 99


@cache
def register_vector_math() -> None:
    """Have TVM's LLVM code generator use these functions; once per process."""
    for name, function in (("exp", exp), ("erf", erf), ("tanh", tanh)):
        tirx.register_intrin_lowering(f"tirx.{name}", target="llvm", f=_lowering(name, function), level=_ABOVE_TVM)


def _lowering(name: str, function: Callable[[Expr], Expr]) -> Callable[[Any], Expr]:
    def lower(call: Any) -> Expr:
        (x,) = call.args
        dtype = str(call.ty.dtype)
        if dtype.startswith("float32"):
            return function(x)
        if name == "exp":
            return tirx.call_llvm_pure_intrin(dtype, "llvm.exp", x)
        return tirx.call_pure_extern(dtype, name, x)

    return lower


def exp(x: Expr) -> Expr:
    """2ⁿ · eʳ with n the nearest integer to x / ln 2: eʳ by a polynomial, 2ⁿ through the exponent's bits.

    2ⁿ is multiplied in two halves, each a normal number, so that results may overflow, or underflow gradually.
    """
    x = _kept_between(x, -104.0, 89.0)
    n = tirx.nearbyint(x * 1.44269504088896341)
    r = x - n * 0.693359375
    r = r + n * 2.12194440e-4
    series = _polynomial(
        r, [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1]
    )
    integer = n.astype(same_lanes("int32", x))
    half = integer >> 1
    return (series * r * r + r + 1.0) * _power_of_two(half) * _power_of_two(integer - half)


def erf(x: Expr) -> Expr:
    """The quotient x · P(x²) / Q(x²) up to ±4, where it is 1 to the last digit."""
    x = _kept_between(x, -4.0, 4.0)
    square = x * x
    above = [
        -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
        -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
    ]  # fmt: skip
    below = [
        -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
        -1.42647390514189e-02,
    ]  # fmt: skip
    return x * _polynomial(square, above) / _polynomial(square, below)


def tanh(x: Expr) -> Expr:
    """The quotient x · P(x²) / Q(x²) up to ±8, where it is 1 to the last digit."""
    x = _kept_between(x, -7.99881172180175781, 7.99881172180175781)
    square = x * x
    above = [
        -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
        1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
    ]  # fmt: skip
    below = [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03]
    return x * _polynomial(square, above) / _polynomial(square, below)


def _kept_between(x: Expr, least: float, most: float) -> Expr:
    """The nearest number of a range; NaN, which is neither above nor below, stays."""
    low, high = (tirx.const(bound, str(x.ty.dtype)) for bound in (least, most))
    return tirx.Select(x > high, high, tirx.Select(x < low, low, x))


def _power_of_two(n: Expr) -> Expr:
    return tirx.reinterpret(same_lanes("float32", n), (n + 127) << 23)


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """By Horner's rule, the highest power first."""
    result: Expr = tirx.const(coefficients[0], str(x.ty.dtype))
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def same_lanes(dtype: str, like: Expr) -> str:
    """A dtype with as many lanes as an expression has."""
    _, _, lanes = str(like.ty.dtype).partition("x")
    return f"{dtype}x{lanes}" if lanes else dtype

"""Relax operators become loop nests: those that are alike, once.

TVM writes and schedules nothing twice, but it writes the loop nest of every operator to find that it has it. A sliced
Program has few distinct operators and calls them in many graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from penstock.backends.tvm.ops.emit import dtype_of, is_expr, shape_of

_CALL_TIR = "relax.call_tir"


def legalize_ops() -> Any:
    """TVM's ``LegalizeOps``, for one module."""
    known: dict[Hashable, _Made] = {}
    names = [str(name) for name in tvm.ir.Op.list_op_names() if str(name).startswith("relax.")]
    functions = {name: tvm.ir.Op.get(name).get_attr("FLegalize") for name in names}
    return relax.transform.LegalizeOps(
        {name: _once(function, known) for name, function in functions.items() if function is not None}
    )


@dataclass(frozen=True)
class _Made:
    """The call of a loop nest that an operator became.

    Attributes:
        attrs: the operator's.
        places: for each argument of the call, which of the operator's variables it is.
    """

    attrs: Any
    call: Any
    places: tuple[int, ...]


def _once(function: Callable[[Any, Any], Any], known: dict[Hashable, _Made]) -> Callable[[Any, Any], Any]:
    def legalize(builder: Any, call: Any) -> Any:
        variables: list[Any] = []
        arguments = tuple(_described(argument, variables) for argument in call.args)
        if None in arguments:
            return function(builder, call)
        key = (str(call.op.name), arguments, tvm_ffi.structural_hash(call.attrs) if call.attrs else None)
        made = known.get(key)
        if made is not None and tvm_ffi.structural_equal(made.attrs, call.attrs):
            return relax.call_tir(made.call.args[0], [variables[place] for place in made.places], made.call.ty_args[0])
        result = function(builder, call)
        places = _places(result, variables)
        if places is not None:
            known[key] = _Made(call.attrs, result, places)
        return result

    return legalize


def _described(argument: Any, variables: list[Any]) -> Hashable:
    """What a loop nest depends on in an argument; None where that is not known.

    Args:
        variables: those of the operator so far; gets new ones.
    """
    if isinstance(argument, relax.Var) and is_expr(argument):
        place = next((at for at, variable in enumerate(variables) if variable.same_as(argument)), len(variables))
        if place == len(variables):
            variables.append(argument)
        return place, shape_of(argument), dtype_of(argument)
    if isinstance(argument, tvm.ir.Tuple):
        fields = tuple(_described(field, variables) for field in argument.fields)
        return None if None in fields else fields
    if isinstance(argument, relax.ShapeExpr):
        extents = tuple(_described(extent, variables) for extent in argument.values)
        return None if None in extents else ("shape", extents)
    if isinstance(argument, tvm.ir.GenericConst):
        return None if argument.value.shape else (dtype_of(argument), argument.value.numpy().tobytes())
    if isinstance(argument, (tirx.IntImm, tirx.FloatImm, tvm.ir.StringImm)):
        return type(argument).__name__, str(argument.ty), repr(argument.value)  # as -0.0 equals 0.0
    return None


def _places(result: Any, variables: list[Any]) -> tuple[int, ...] | None:
    """Which of an operator's variables the loop nest that it became takes; None where it became anything else."""
    if not isinstance(result, tvm.ir.Call) or getattr(result.op, "name", None) != _CALL_TIR or len(result.args) != 2:
        return None
    places = []
    for argument in result.args[1].fields:
        place = next((at for at, variable in enumerate(variables) if variable.same_as(argument)), None)
        if place is None:
            return None
        places.append(place)
    return tuple(places)

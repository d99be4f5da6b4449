"""Which variables of a graph its fused kernels make on the way.

Fusion gives kernels that are alike one function, whose variables have the names of the first of them. A kernel's own
variables are those that the same operators make of the same operands.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import tvm
import tvm_ffi
from tvm import relax


def inside(before: tvm.IRModule, after: tvm.IRModule) -> dict[tuple[str, str], tuple[str | None, ...]]:
    """For each variable that a fused function makes, the variables of its graph that the operators in it made before.

    Args:
        before, after: a module without and with fused functions.

    Returns:
        By the names of a graph and of a variable of `after`, the names in `before`, in order; None for what is not
        found there.
    """
    found: dict[tuple[str, str], tuple[str | None, ...]] = {}
    for name, function in after.functions_items():
        if not isinstance(function, relax.Function) or _is_fused(function):
            continue
        made = _made(before[name.name_hint])
        known: dict[Any, Hashable] = dict(zip(function.params, _names(before[name.name_hint].params), strict=True))
        for variable, value in _bindings(function):
            callee = getattr(value, "op", None)
            if not isinstance(callee, tvm.ir.GlobalVar) or not _is_fused(after[callee]):
                known[variable] = _first(made, value, known)
                continue
            own = {param: _described(arg, known) for param, arg in zip(after[callee].params, value.args, strict=True)}
            names: list[str | None] = []
            for inner, within in _bindings(after[callee]):
                own[inner] = _first(made, within, own)
                names.append(_name(own[inner]))
            found[name.name_hint, str(variable.name)] = tuple(names)
            known[variable] = own[inner]
    return found


def _made(function: Any) -> dict[Hashable, deque[str]]:
    """The variables of a function by what makes them."""
    known: dict[Any, Hashable] = dict(zip(function.params, _names(function.params), strict=True))
    made: dict[Hashable, deque[str]] = defaultdict(deque)
    for variable, value in _bindings(function):
        if isinstance(value, relax.Var):  # another name for it
            known[variable] = known[value]
            continue
        made[_described(value, known)].append(str(variable.name))
        known[variable] = str(variable.name)
    return made


def _first(made: Mapping[Hashable, deque[str]], value: Any, known: Mapping[Any, Hashable]) -> Hashable:
    """The name of what an expression makes, each of those that are alike once; a description where there is none."""
    described = _described(value, known)
    names = made.get(described)
    return names.popleft() if names else described


def _described(value: Any, known: Mapping[Any, Hashable]) -> Hashable:
    """What an expression makes of which variables."""
    if isinstance(value, relax.Var):
        return known[value]
    if isinstance(value, tvm.ir.GlobalVar):
        return str(value.name_hint)
    if isinstance(value, relax.Tuple):
        return tuple(_described(field, known) for field in value.fields)
    if isinstance(value, relax.TupleGetItem):
        return _described(value.tuple_value, known), int(value.index)
    if isinstance(value, tvm.ir.Call):
        return (str(value.op.name), *(_described(arg, known) for arg in value.args))
    return int(tvm_ffi.structural_hash(value))


def _name(described: Hashable) -> str | None:
    return described if isinstance(described, str) else None


def _names(variables: Any) -> Iterator[str]:
    return (str(variable.name) for variable in variables)


def _is_fused(function: Any) -> bool:
    return bool(function.attrs and function.attrs.get("Primitive"))


def _bindings(function: Any) -> Iterator[tuple[Any, Any]]:
    for block in function.body.blocks:
        for binding in block.bindings:
            yield binding.var, binding.value

"""From a scheduled Relax module to launch lists: one body per graph, over a table of kernels that all graphs share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import tvm
import tvm_ffi
from tvm import relax

from penstock.backends.plan.launches import Body, Copy, Launch, Op, Storage, Type, Value
from penstock.backends.tvm.nests import Nest, nests
from penstock.passes.core.errors import InvalidProgramError

CONCATENATION = "penstock.concatenation"
"""Attribute of a function that joins its arguments along contiguous ranges: its launch is a copy per argument."""

_LONGEST_NAME = 80


@dataclass
class KernelTable:
    """Every distinct loop nest and every constant once, under a name of its own.

    Attributes:
        nests: by name, in the order in which they were first met.
        constants: by name, the numbers that did not become part of a kernel; a kernel reads them like weights.
    """

    nests: dict[str, Nest] = field(default_factory=dict)
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    _known: dict[int, list[str]] = field(default_factory=dict)

    def add(self, name: str, nest: Nest) -> int:
        """The index of a nest; `name` is what to call it if it is new, or near to it."""
        names = list(self.nests)
        alike = self._known.setdefault(tvm_ffi.structural_hash(nest.function), [])
        for known in alike:
            if tvm_ffi.structural_equal(self.nests[known].function, nest.function):
                return names.index(known)
        while name in self.nests:  # by another module's function
            name += "_"
        alike.append(name)
        self.nests[name] = nest
        return len(names)

    def used_by(self, bodies: Mapping[str, Body]) -> tuple[KernelTable, dict[str, Body]]:
        """The table without the nests that no launch of some graphs refers to, and the graphs as they refer to that."""
        used = sorted({op.kernel for body in bodies.values() for op in body.ops if isinstance(op, Launch)})
        places = {index: place for place, index in enumerate(used)}
        names = list(self.nests)

        def moved(op: Op) -> Op:
            return replace(op, kernel=places[op.kernel]) if isinstance(op, Launch) else op

        table = KernelTable({names[index]: self.nests[names[index]] for index in used}, self.constants)
        return table, {name: replace(body, ops=tuple(map(moved, body.ops))) for name, body in bodies.items()}


def launch_lists(
    module: tvm.IRModule, weights: Mapping[str, Sequence[str]], table: KernelTable | None = None
) -> tuple[KernelTable, dict[str, Body]]:
    """The kernels of a scheduled module, and the launches of each of its graphs.

    Args:
        module: every TIR function scheduled, Relax functions straight-line.
        weights: for each graph, the weights that its function takes after the graph's arguments.
        table: to which the kernels are added; a new one if there is none.
    """
    table = KernelTable() if table is None else table
    parts = _Parts(module, table)
    return table, {
        graph: _Lister(graph, module[graph], names, parts, table.constants).body() for graph, names in weights.items()
    }


class _Parts:
    """The nests of each TIR function, taken apart once."""

    def __init__(self, module: tvm.IRModule, table: KernelTable) -> None:
        self._module = module
        self._table = table
        self._known: dict[str, list[tuple[int, Nest]]] = {}

    def function(self, callee: Any) -> Any:
        return self._module[callee]

    def of(self, callee: Any) -> list[tuple[int, Nest]]:
        """Kernel index and nest of each launch of a function."""
        name = str(callee.name_hint)
        if name not in self._known:
            found = [nest for nest in nests(self._module[callee]) if _writes_something(nest)]
            short = _short(name)
            names = [short] if len(found) == 1 else [f"{short}_part{index}" for index in range(len(found))]
            self._known[name] = [(self._table.add(*pair), pair[1]) for pair in zip(names, found, strict=True)]
        return self._known[name]


def _short(name: str) -> str:
    """A name that may be part of a file's name: the name of a long chain of fused operators may not."""
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _writes_something(nest: Nest) -> bool:
    return any(math.prod(nest.buffers[index].shape) for index in nest.writes)


class _Lister:
    """Walks one Relax function and lists its launches."""

    def __init__(
        self, graph: str, function: Any, weights: Sequence[str], parts: _Parts, constants: dict[str, torch.Tensor]
    ) -> None:
        self._graph = graph
        self._function = function
        self._constants = constants
        self._parts = parts
        self._storages: list[Storage] = []
        self._values: list[Value] = []
        self._ops: list[Op] = []
        self._bound: dict[Any, Any] = {}
        arguments = len(function.params) - len(weights)
        self._parameters = [_type(param) for param in function.params[:arguments]]
        for index, param in enumerate(function.params):
            kind, name = _type(param), str(param.name)
            if index < arguments:
                storage = Storage("parameter", kind.bytes, index)
            else:
                name = weights[index - arguments]
                storage = Storage("weight", kind.bytes, weight=name)
            self._bound[param] = self._new(name, kind, storage)

    def body(self) -> Body:
        """The launches of the function."""
        for block in self._function.body.blocks:
            for binding in block.bindings:
                self._bound[binding.var] = self._value_of(binding.value, binding.var)
        arguments = len(self._parameters)
        results = self._bound[self._function.body.body]
        for result in results if isinstance(results, list) else [results]:
            self._hand_over(result)
        return Body(tuple(self._parameters), arguments, tuple(self._storages), tuple(self._values), tuple(self._ops))

    def _hand_over(self, result: int) -> None:
        """Make a value a result: its storage becomes the parameter, or it is copied there."""
        value = self._values[result]
        parameter = Storage("parameter", value.type.bytes, len(self._parameters))
        self._parameters.append(value.type)
        held = self._storages[value.storage]
        if held.space == "local" and value.offset == 0 and held.bytes == value.type.bytes:
            self._storages[value.storage] = parameter
        else:
            self._ops.append(Copy(result, self._new(value.name, value.type, parameter)))

    def _value_of(self, expr: Any, var: Any) -> Any:
        """The index of the value of a binding, or a list of them."""
        if isinstance(expr, relax.Var):
            return self._bound[expr]
        if isinstance(expr, relax.Tuple):
            return [self._value_of(item, var) for item in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            return self._bound[expr.tuple_value][int(expr.index)]
        if isinstance(expr, tvm.ir.expr.GenericConst):
            return self._constant(expr)
        name = str(getattr(getattr(expr, "op", None), "name", type(expr).__name__))
        if name == "relax.reshape":
            return self._view(self._bound[expr.args[0]], _type(var), str(var.name))
        if name == "relax.memory.view":
            offset = int(expr.args[3].value) if len(expr.args) > 3 else 0
            return self._view(self._bound[expr.args[0]], _type(var), str(var.name), offset)
        if name == "relax.call_tir":
            return self._call(expr, var)
        raise InvalidProgramError(f"{name} in the lowered function '{var.name}' is no launch; a fault of penstock")

    def _constant(self, expr: Any) -> int:
        array = expr.value.numpy()
        name = f"constant.{array.dtype}.{hashlib.sha256(array.tobytes() + str(array.shape).encode()).hexdigest()[:16]}"
        self._constants[name] = torch.from_numpy(array.copy())
        kind = Type(str(array.dtype), tuple(array.shape))
        return self._new(name, kind, Storage("weight", kind.bytes, weight=name))

    def _view(self, source: int, kind: Type, name: str, offset: int = 0) -> int:
        seen = self._values[source]
        self._values.append(Value(name, kind, seen.storage, seen.offset + offset))
        return len(self._values) - 1

    def _new(self, name: str, kind: Type, storage: Storage) -> int:
        self._storages.append(storage)
        self._values.append(Value(name, kind, len(self._storages) - 1))
        return len(self._values) - 1

    def _local(self, name: str, kind: Type) -> int:
        return self._new(name, kind, Storage("local", kind.bytes))

    def _call(self, call: Any, var: Any) -> Any:
        callee, arguments = call.args[0], call.args[1]
        fields = arguments.fields if isinstance(arguments, relax.Tuple) else [arguments]
        operands = [self._value_of(field, var) for field in fields]
        kinds = [_type_of(kind) for kind in (var.ty.fields if isinstance(var.ty, relax.TupleType) else [var.ty])]
        results = [self._local(str(var.name), kind) for kind in kinds]
        if (self._parts.function(callee).attrs or {}).get(CONCATENATION):
            self._join(operands, results[0])
        else:
            self._launch(callee, [*operands, *results], str(var.name))
        return results if isinstance(var.ty, relax.TupleType) else results[0]

    def _launch(self, callee: Any, values: list[int], made: str) -> None:
        temporaries: dict[int, int] = {}
        for kernel, nest in self._parts.of(callee):
            args = []
            for buffer in nest.buffers:
                if not buffer.is_temporary:
                    args.append(values[buffer.position])
                    continue
                if buffer.position not in temporaries:
                    name = f"{callee.name_hint}.{buffer.position}"
                    temporaries[buffer.position] = self._local(name, Type(buffer.dtype, buffer.shape))
                args.append(temporaries[buffer.position])
            self._ops.append(Launch(kernel, tuple(args), (self._graph, made)))

    def _join(self, parts: Sequence[int], whole: int) -> None:
        offset = 0
        for part in parts:
            kind = self._values[part].type
            self._ops.append(Copy(part, self._view(whole, kind, self._values[whole].name, offset)))
            offset += kind.bytes


def _type(var: Any) -> Type:
    return _type_of(var.ty)


def _type_of(kind: Any) -> Type:
    return Type(str(kind.dtype), tuple(int(extent) for extent in kind.shape.values))

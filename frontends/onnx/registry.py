"""The table of ONNX operators: one function each, whose signature says what the operator takes.

::

    @onnx_op("Reshape", since=14)
    def reshape(x: Tensor, shape: tuple[int, ...], *, allowzero: int = 0) -> Tensor: ...

Positional parameters are the ONNX inputs in order. Keyword-only parameters are the attributes, in snake case. The
annotation of an input says in which form the function wants it:

  * ``Tensor``: a tensor of the graph;
  * ``int``, ``float``, ``bool``, ``tuple[int, ...]``, ``tuple[float, ...]``, ``np.ndarray``: its data, which must not
    depend on the model's inputs (a shape, axes, a number of slices);
  * ``Tensor | float``: its data if it is a known scalar, otherwise the tensor;
  * ``TensorSpec``: its shape and dtype alone;
  * ``… | None``: it may be left out.

The keyword ``outputs`` receives how many outputs the node asks for. Several functions may stand for one operator, each
for the opsets from its `since` on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import onnx
from torch import Tensor

from penstock.frontends.onnx.module import SequenceValue, Step, Value, described
from penstock.frontends.onnx.origin import Origin
from penstock.frontends.onnx.tensors import array_of_tensor
from penstock.passes.core.program import TensorSpec

Function = TypeVar("Function", bound=Callable[..., Any])


OLDEST_OPSET = 13
"""Files of older opsets are refused: too many operators had other inputs then."""


class UnsupportedFormError(Exception):
    """Raised by an operator's function for a form that it does not support; the message says what would be."""


_SCALARS = (int, float, bool)
_READERS: dict[Any, Callable[[Tensor], Any]] = {
    int: lambda tensor: int(tensor.item()),
    float: lambda tensor: tensor.item(),
    bool: lambda tensor: bool(tensor.item()),
    tuple[int, ...]: lambda tensor: tuple(tensor.reshape(-1).tolist()),
    tuple[float, ...]: lambda tensor: tuple(tensor.reshape(-1).tolist()),
    np.ndarray: array_of_tensor,
}


@dataclass(frozen=True)
class Parameter:
    """One input of an operator: the forms in which its function takes it."""

    name: str
    forms: frozenset[Any]
    optional: bool

    def bind(self, value: Value | None) -> Any:
        """The operand to pass: plain data, or the `Value` itself for a tensor.

        Raises:
            UnsupportedFormError: the input is missing, or its data is not known at capture.
        """
        if value is None:
            if not self.optional:
                raise UnsupportedFormError(f"the input '{self.name}' is missing")
            return None
        if isinstance(value, SequenceValue):
            raise UnsupportedFormError(f"its input '{value.name}' is a sequence")
        if TensorSpec in self.forms:
            return TensorSpec(value.name, tuple(value.fake.shape), value.fake.dtype)
        if value.known is not None:
            scalar = value.known.dim() == 0
            for form, read in _READERS.items():
                if form in self.forms and (form not in _SCALARS or scalar or Tensor not in self.forms):
                    return read(value.known)
        if Tensor not in self.forms:
            raise UnsupportedFormError(
                f"its input '{self.name}' ({described(value)}) depends on the model's inputs; "
                f"export the model with static shapes, or make this value a constant"
            )
        return value


@dataclass(frozen=True)
class Operator:
    """One row of the table."""

    function: Callable[..., Any]
    since: int
    parameters: tuple[Parameter, ...]
    variadic: Parameter | None
    attributes: frozenset[str]

    def bind(self, node: onnx.NodeProto, values: Sequence[Value | None], origin: Origin) -> Step:
        """The step that computes `node` on `values`.

        Raises:
            UnsupportedFormError: the function does not take the node in this form.
        """
        if len(values) > len(self.parameters) and self.variadic is None:
            raise UnsupportedFormError(f"its input '{node.input[len(self.parameters)]}' is not supported")
        padded = [*values, *[None] * (len(self.parameters) - len(values))]
        operands = [parameter.bind(value) for parameter, value in zip(self.parameters, padded, strict=False)]
        if self.variadic is not None:
            operands += [self.variadic.bind(value) for value in padded[len(self.parameters) :]]
        attributes = {_snake(item.name): _attribute(item) for item in node.attribute}
        for name in attributes:
            if name not in self.attributes:
                raise UnsupportedFormError(f"its attribute '{name}' is not supported")
        if "outputs" in self.attributes:
            attributes["outputs"] = len(node.output)
        return Step(self.function, operands, attributes, origin)


_TABLE: dict[str, list[Operator]] = {}


def onnx_op(*names: str, since: int = OLDEST_OPSET) -> Callable[[Function], Function]:
    """Register a function for ONNX operators.

    Args:
        names: ``Conv``; several when one function serves all.
        since: the first opset for which it holds.
    """

    def decorate(function: Function) -> Function:
        hints = get_type_hints(function)
        parameters: list[Parameter] = []
        variadic: Parameter | None = None
        attributes: set[str] = set()
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY:
                attributes.add(name)
                continue
            hint = hints[name]
            forms = frozenset(get_args(hint) if isinstance(hint, UnionType) else (hint,))
            entry = Parameter(name, forms - {NoneType}, NoneType in forms)
            if parameter.kind is parameter.VAR_POSITIONAL:
                variadic = entry
            else:
                parameters.append(entry)
        row = Operator(function, since, tuple(parameters), variadic, frozenset(attributes))
        for name in names:
            rows = _TABLE.setdefault(name, [])
            if any(other.since == since for other in rows):
                raise ValueError(f"two functions stand for {name} since opset {since}")
            rows.append(row)
        return function

    return decorate


def find_operator(domain: str, name: str, opset: int) -> Operator | None:
    """The row for an operator at an opset: the newest that is not newer than the opset. All rows are of domain ''."""
    rows = [row for row in _TABLE.get(name, ()) if row.since <= opset and not domain]
    return max(rows, key=lambda row: row.since, default=None)


def supported_operators() -> list[str]:
    """The names of the supported operators, sorted."""
    return sorted(_TABLE)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, (onnx.GraphProto, onnx.SparseTensorProto, onnx.TypeProto)):
        raise UnsupportedFormError(f"its attribute '{attribute.name}' is a {type(value).__name__}")
    return tuple(value) if isinstance(value, list) else value

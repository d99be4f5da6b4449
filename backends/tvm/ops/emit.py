"""What a lowering emits with: a Relax block builder at one node, and helpers for shapes, dtypes and constants.

dtypes are strings as TVM and torch both spell them (``float16``, ``int64``, ``bool``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import tvm
from torch.fx import Node
from tvm import relax, te, tirx

from penstock.passes.core.shapes import dtype_name, dtype_named, value_of

# TVM has no type stubs, so these say what is meant, and a type checker takes them as anything.
Expr = Any
"""A Relax tensor expression."""
Var = Any
"""A Relax variable: an expression that is bound already."""
Number = bool | int | float
Value = Any
"""A Relax tensor expression or a Python number."""

INJECTIVE = 2
"""Of TVM's operator patterns: every element is made of a few, so operators that move elements fuse into it."""
OUT_ELEMENTWISE_FUSABLE = 4
"""Of TVM's operator patterns: elementwise operators that follow fuse into it."""
OPAQUE = 8
"""Of TVM's operator patterns: what fuses with nothing."""

VIEW_ALIGNMENT = 128
"""Bytes: the start of a tensor within another one is a multiple of this, as every device asks for at most."""


_TVM_NAME = re.compile(r"[lg]v\d*")
"""What TVM calls variables of its own."""


class Emit:
    """A block builder, standing at the node being lowered.

    Attributes:
        builder: the Relax block builder; a dataflow block is open.
        target: the operator being lowered.
        shape: the result's shape; of the first result for an operator that yields a tuple.
        dtype: the result's dtype, likewise.
        wide: the dtype in which to accumulate and to compute transcendental functions: float32 for a float16 result.
        panels: the weight by which the operator multiplies, or the table of an embedding, packed for the target's
            products; None if it is not.
    """

    def __init__(self, builder: Any, node: Node, panels: Expr | None = None) -> None:
        self.builder = builder
        self.panels = panels
        self._node = node
        self._name = f"{node.name}_value" if _TVM_NAME.fullmatch(node.name) else node.name
        self.target: Any = node.target
        value = value_of(node)
        first = value if isinstance(value, torch.Tensor) else value[0]
        self.shape: tuple[int, ...] = tuple(first.shape)
        self.dtype = dtype_name(first.dtype)
        self.wide = widened(self.dtype)

    def __call__(self, expr: Expr) -> Var:
        """Bind an expression to a variable, with its type inferred."""
        return self.builder.emit(expr, name_hint=self._name)

    def te(self, function: Callable[..., Any], *args: Any, name: str, **attributes: Any) -> Var:
        """Emit a tensor expression as one kernel.

        Args:
            function: takes the TE tensors of `args` and returns one TE tensor.
            name: what to call the kernel.
            attributes: of the kernel.
        """
        named = {"name_hint": self._name, "primfunc_name_hint": name}
        return self.builder.emit_te(function, *args, **named, primfunc_attrs=attributes or None)

    def kernel(self, function: Any, *args: Expr, name: str, shape: Sequence[int], dtype: str) -> Var:
        """Emit a call of a TIR function that writes one new tensor, its last parameter."""
        callee = self.builder.add_func(function, name)
        return self(relax.call_tir(callee, list(args), relax.TensorType(tuple(shape), dtype)))

    def permuted_by_users(self) -> tuple[int, ...] | None:
        """The order in which all users of the result want its dimensions; None where they want several, or none."""
        rank = len(self.shape)
        orders: set[tuple[int, ...] | None] = set()
        for user in self._node.users:
            dims: Any = user.args[1:]
            if user.target is torch.ops.aten.permute.default:
                orders.add(tuple(axes(dims[0], rank)))
            elif user.target is torch.ops.aten.transpose.int:
                order = list(range(rank))
                first, second = axes(dims, rank)
                order[first], order[second] = second, first
                orders.add(tuple(order))
            else:
                orders.add(None)
        return orders.pop() if len(orders) == 1 else None

    def cast(self, expr: Expr, dtype: str) -> Expr:
        """The tensor in another dtype; itself when it has that dtype. A boolean says what is not zero."""
        held = dtype_of(expr)
        if held == dtype:
            return expr
        if dtype == "bool":
            return self.negated(self(relax.op.equal(expr, constant(0, held))))
        return self(relax.op.astype(expr, dtype))

    def in_order(self, expr: Expr, order: Sequence[int]) -> Expr:
        """A tensor with its dimensions in another order; where that undoes a permutation, the tensor before it."""
        bound = self._binding(expr)
        if _operator(bound) == "relax.permute_dims":
            before = [int(axis) for axis in bound.attrs.axes]
            if [before[axis] for axis in order] == list(range(len(before))):
                return bound.args[0]
        return self(relax.op.permute_dims(expr, list(order)))

    def negated(self, condition: Expr) -> Expr:
        """The opposite of a boolean tensor.

        TVM turns "not equal" of floats into a comparison that is false for NaN on a CPU, so it is kept from seeing one.
        """
        return self(relax.op.less(self(relax.op.astype(condition, "int8")), constant(1, "int8")))

    def operand(self, value: Value, dtype: str) -> Expr:
        """A tensor or a number as an expression of that dtype."""
        return self.cast(value, dtype) if is_expr(value) else constant(value, dtype)

    def elementwise(self, function: Callable[..., Any], *operands: Value, shape: Sequence[int], name: str) -> Var:
        """Emit one kernel that applies a function of TIR scalars to operands broadcast together.

        Args:
            operands: tensors, and numbers, which become part of the kernel. A number takes the form that `function`
                gives it.
            shape: the result's shape.
        """
        tensors = [operand for operand in operands if is_expr(operand)]

        def compute(*sources: te.Tensor) -> te.Tensor:
            def element(*i: Any) -> Any:
                held = iter(sources)
                return function(*(broadcast_read(next(held), i) if is_expr(each) else each for each in operands))

            return te.compute(tuple(shape), element, name=name)

        return self.te(compute, *tensors, name=name)

    def full(self, value: Number, shape: Sequence[int], dtype: str) -> Expr:
        """One number everywhere; a constant when the shape has rank 0."""
        if not shape:
            return constant(value, dtype)
        return self.elementwise(lambda: tirx.const(value, dtype), shape=shape, name="full")

    def reshape(self, expr: Expr, shape: Sequence[int]) -> Expr:
        """The tensor in another shape of as many elements; itself when it has that shape.

        Two reshapes in a row are one: TVM would fuse them to a kernel that copies, and knows one alone as a view.
        """
        while (bound := self._binding(expr)) is not None and _operator(bound) == "relax.reshape":
            expr = bound.args[0]
        return expr if shape_of(expr) == tuple(shape) else self(relax.op.reshape(expr, tuple(shape)))

    def view(self, expr: Expr, offset: int, shape: Sequence[int]) -> Expr:
        """Some of a tensor's bytes as a tensor, where they are.

        Args:
            offset: of the first element, in bytes; a multiple of `VIEW_ALIGNMENT`.
        """
        position = relax.prim_value(tvm.tirx.IntImm("int64", offset))
        return self(relax.op.memory.view(expr, tuple(shape), dtype_of(expr), position))

    def lies_dense(self, expr: Expr) -> bool:
        """Whether a tensor's elements lie in memory as its shape says, and not permuted, or apart, in another one."""
        bound = self._binding(expr)
        name = _operator(bound)
        if name in ("relax.reshape", "relax.memory.view"):
            return self.lies_dense(bound.args[0])
        return name not in ("relax.permute_dims", "relax.strided_slice")

    def broadcast(self, expr: Expr, shape: Sequence[int]) -> Expr:
        """The tensor repeated along new and 1-sized leading dimensions; itself when it has that shape."""
        return expr if shape_of(expr) == tuple(shape) else self(relax.op.broadcast_to(expr, tuple(shape)))

    def unrepeated(self, expr: Expr) -> Expr:
        """What `broadcast` repeated to make a tensor, for a kernel that reads by `broadcast_read`; else the tensor."""
        bound = self._binding(expr)
        return bound.args[0] if _operator(bound) == "relax.broadcast_to" else expr

    def _binding(self, expr: Expr) -> Any:
        """What a variable is bound to; None for one that is an argument, and for what is no variable."""
        return self.builder.lookup_binding(expr) if isinstance(expr, relax.Var) else None


def _operator(bound: Any) -> str:
    """The name of the operator that an expression calls."""
    return str(getattr(getattr(bound, "op", None), "name", ""))


def broadcast_read(tensor: te.Tensor, position: Sequence[Any]) -> Any:
    """The element of a tensor at a position of a shape to which it broadcasts."""
    trailing = position[len(position) - len(tensor.shape) :]
    return tensor(*(0 if int(extent) == 1 else at for extent, at in zip(tensor.shape, trailing, strict=True)))


def is_expr(value: Any) -> bool:
    """Whether a value is a tensor expression, not a number."""
    return isinstance(getattr(value, "ty", None), relax.TensorType)


def shape_of(expr: Expr) -> tuple[int, ...]:
    """The static shape of a tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape.values)


def dtype_of(expr: Expr) -> str:
    """The dtype of a tensor expression."""
    return str(expr.ty.dtype)


def constant(value: Number, dtype: str) -> Expr:
    """A rank-0 constant; it becomes part of the kernels that use it."""
    return relax.const(np.asarray(value).astype(dtype), dtype)


def axis(dim: int, rank: int) -> int:
    """A dimension counted from the front; a rank-0 tensor counts as one dimension, as in torch."""
    return dim % max(rank, 1)


def axes(dims: Sequence[int] | int | None, rank: int) -> list[int]:
    """Dimensions counted from the front; all of them for None and for an empty list, as in torch's reductions."""
    if dims is None or (isinstance(dims, Sequence) and not dims):
        return list(range(rank))
    return [axis(dim, rank) for dim in (dims if isinstance(dims, Sequence) else [dims])]


def is_float(dtype: str) -> bool:
    """Whether a dtype is a floating-point one."""
    return dtype.startswith("float")


def widened(dtype: str) -> str:
    """The dtype that accumulates values of `dtype`: float32 for float16, else itself."""
    return "float32" if dtype == "float16" else dtype


def promoted(left: Value, right: Value) -> str:
    """The dtype in which torch compares two operands."""
    return dtype_name(torch.result_type(_probe(left), _probe(right)))


def _probe(value: Value) -> Any:
    if not is_expr(value):
        return value
    return torch.empty((1,) * min(len(shape_of(value)), 1), dtype=dtype_named(dtype_of(value)), device="meta")

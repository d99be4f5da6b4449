"""Kernels that read operands, and leave results, where they lie: permuted, or as a part of something larger.

A permutation or a slice is a view in PyTorch; a kernel that knows dense tensors only would need a copy of each one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import tvm
import tvm_ffi
from tvm import relax, tirx

from penstock.backends.tvm.ops.emit import Expr, shape_of


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor lie within a dense one; all numbers count elements.

    Attributes:
        size: of the dense tensor.
        offset: of the first element.
        strides: from one element to the next, for each dimension.
    """

    size: int
    offset: int
    strides: tuple[int, ...]

    @classmethod
    def of(cls, view: torch.Tensor) -> Layout:
        """The layout of a view of a dense tensor."""
        size = view.untyped_storage().nbytes() // view.itemsize
        return cls(size, int(view.storage_offset()), tuple(view.stride()))


def dense(shape: Sequence[int]) -> torch.Tensor:
    """A tensor without data, to find the layouts of its views with."""
    return torch.empty(tuple(shape), dtype=torch.uint8, device="meta")


def stored(builder: Any, expr: Expr) -> tuple[Expr, Layout]:
    """The tensor that a tensor is a view of, and how: itself, unless it is made of permutations, slices and reshapes.

    A view whose rows would be torn apart (whose last dimension has not the stride 1) is stored as it is.

    Returns:
        The tensor in the shape in which a kernel that is `laid_out` so takes it, and the layout.
    """
    source, layout = _stored(builder, expr)
    taken = parameter_shape(shape_of(expr), layout)
    return source if shape_of(source) == taken else builder.emit(relax.op.reshape(source, taken)), layout


def parameter_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """The shape of a parameter that was written for `shape`, once it is laid out: one dimension if not dense."""
    return shape if layout == Layout.of(dense(shape)) else (layout.size,)


def _stored(builder: Any, expr: Expr) -> tuple[Expr, Layout]:
    chain: list[Callable[[torch.Tensor], torch.Tensor]] = []
    found = expr, Layout.of(dense(shape_of(expr)))
    while True:
        bound = builder.lookup_binding(expr) if isinstance(expr, relax.Var) else None
        step = _view(bound)
        if step is None:
            return found
        expr = bound.args[0]  # type: ignore[union-attr]
        chain.append(step)
        view = dense(shape_of(expr))
        try:
            for apply in reversed(chain):
                view = apply(view)
        except RuntimeError:  # a reshape that needs a copy
            return found
        if view.stride(-1) == 1:
            found = expr, Layout.of(view)


def _view(bound: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What a Relax operator does to a tensor of which it could be a view."""
    name = str(getattr(getattr(bound, "op", None), "name", ""))
    if name == "relax.permute_dims":
        order = [int(axis) for axis in bound.attrs.axes]
        return lambda held: held.permute(order)
    if name == "relax.reshape":
        shape = tuple(int(extent) for extent in bound.args[1].values)
        return lambda held: held.view(shape)
    if name == "relax.strided_slice":
        dims, begins, ends, strides = ([int(each.value) for each in arg.fields] for arg in bound.args[1:5])
        parts = list(zip(dims, begins, ends, strides, strict=True))

        def cut(held: torch.Tensor) -> torch.Tensor:
            for dim, begin, end, stride in parts:
                held = torch.ops.aten.slice.Tensor(held, dim, begin, end, stride)
            return held

        return cut
    return None


def laid_out(function: Any, layouts: Mapping[int, Layout]) -> Any:
    """A scheduled TIR function with some of its parameters laid out in another way; those become one-dimensional.

    Args:
        layouts: by the position of the parameter.
    """
    flat: list[tuple[Any, Any, Layout]] = []
    params = list(function.params)
    for position, layout in layouts.items():
        held = params[position]
        shape = tuple(int(extent) for extent in held.shape)
        taken = parameter_shape(shape, layout)
        if taken == shape:
            continue
        params[position] = tirx.decl_buffer(taken, held.dtype, str(held.name))
        flat.append((held, params[position], layout))
    if not flat:
        return function

    def place(buffer: Any) -> tuple[Any, Layout] | None:
        return next(((new, layout) for old, new, layout in flat if buffer.same_as(old)), None)

    def load(node: Any) -> Any:
        found = place(node.source)
        return node if found is None else tirx.BufferLoad(found[0], [_index(node.indices, found[1])])

    def store(node: Any) -> Any:
        found = place(node.buffer)
        return node if found is None else tirx.BufferStore(found[0], node.value, [_index(node.indices, found[1])])

    def region(node: Any) -> Any:
        found = place(node.source)
        if found is None:
            return node
        return tirx.BufferRegion(found[0], [tvm.ir.Range(0, found[1].size)])

    visits = [(tvm.ir.TensorLoad, load), (tirx.BufferStore, store), (tvm.ir.TensorRegion, region)]
    body = tvm_ffi.structural_map(function.body, visits)
    return tirx.PrimFunc(params, body).with_attr(dict(function.attrs.items()))


def _index(indices: Sequence[Any], layout: Layout) -> Any:
    total: Any = layout.offset
    for index, stride in zip(indices, layout.strides, strict=True):
        total = total + index * stride
    return total

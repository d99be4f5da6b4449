"""What each operator does to complex numbers that are kept as pairs of reals.

A complex tensor of shape S is a real tensor of shape ``(*S, 2)``: the real part at index 0, the imaginary part at 1. A
rule takes the node, an emitter, and the map from complex nodes to their pairs; it returns the pair of a node that
yields complex numbers, and the new node itself for one that yields reals.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.rewriter import Emitter
from penstock.passes.core.shapes import dtype_of, shape_of, tensor_of
from penstock.passes.legalize.dimensions import dimension_arguments

aten = torch.ops.aten

Pairs = Mapping[Node, Node]
Rule = Callable[[Node, Emitter, Pairs], Node]


def is_complex(node: Node) -> bool:
    """Whether a node yields a complex tensor, or a tuple with one."""
    value = node.meta.get("val")
    items = value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(item, torch.Tensor) and item.is_complex() for item in items)


def pairs_of(weight: torch.Tensor) -> torch.Tensor:
    """A complex tensor of shape S as a real one of shape ``(*S, 2)``."""
    return torch.view_as_real(weight.detach().resolve_conj()).contiguous()


def _real_dtype(node: Node) -> torch.dtype:
    return tensor_of(node).dtype.to_real()


def _cast(emit: Emitter, x: Node, dtype: torch.dtype) -> Node:
    return x if dtype_of(x) == dtype else emit(aten._to_copy.default, x, dtype=dtype)


def _parts(emit: Emitter, pair: Node) -> tuple[Node, Node]:
    last = len(shape_of(pair)) - 1
    return emit(aten.select.int, pair, last, 0), emit(aten.select.int, pair, last, 1)


def _join(emit: Emitter, real: Node, imaginary: Node) -> Node:
    return emit(aten.stack.default, [real, imaginary], len(shape_of(real)))


def _pair(node: Node, emit: Emitter, pairs: Pairs, operand: Any) -> Node:
    """Any operand of `node` (complex, real, or a number) as a pair in the precision of the result."""
    dtype = _real_dtype(node)
    if not isinstance(operand, Node):
        return emit.constant(torch.tensor([complex(operand).real, complex(operand).imag], dtype=dtype))
    if operand in pairs:
        return _cast(emit, pairs[operand], dtype)
    real = _cast(emit, operand, dtype)
    return _join(emit, real, emit(aten.zeros_like.default, real))


def _product(emit: Emitter, left: Node, right: Node) -> Node:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i."""
    (a, b), (c, d) = _parts(emit, left), _parts(emit, right)
    mul = aten.mul.Tensor
    real = emit(aten.sub.Tensor, emit(mul, a, c), emit(mul, b, d))
    imaginary = emit(aten.add.Tensor, emit(mul, a, d), emit(mul, b, c))
    return _join(emit, real, imaginary)


def _conjugate(emit: Emitter, pair: Node) -> Node:
    real, imaginary = _parts(emit, pair)
    return _join(emit, real, emit(aten.neg.default, imaginary))


def _square(emit: Emitter, pair: Node) -> Node:
    """The squared magnitude, without the last dimension."""
    return emit(aten.sum.dim_IntList, emit(aten.mul.Tensor, pair, pair), [len(shape_of(pair)) - 1])


def _multiply(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    left, right = node.args
    if left not in pairs:
        left, right = right, left
    own = _pair(node, emit, pairs, left)
    if isinstance(right, Node) and right not in pairs:
        factor = _cast(emit, right, _real_dtype(node))
        return emit(aten.mul.Tensor, own, emit(aten.unsqueeze.default, factor, len(shape_of(factor))))
    if isinstance(right, (int, float)):
        return emit(aten.mul.Tensor, own, right)
    return _product(emit, own, _pair(node, emit, pairs, right))


def _divide(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    left, right = node.args
    own = _pair(node, emit, pairs, left)
    if isinstance(right, (int, float)):
        return emit(aten.div.Tensor, own, right)
    if isinstance(right, Node) and right not in pairs:
        divisor = _cast(emit, right, _real_dtype(node))
    else:
        other = _pair(node, emit, pairs, right)
        own, divisor = _product(emit, own, _conjugate(emit, other)), _square(emit, other)
    return emit(aten.div.Tensor, own, emit(aten.unsqueeze.default, divisor, len(shape_of(divisor))))


def _reciprocal(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    pair = pairs[node.args[0]]  # type: ignore[index]
    size = _square(emit, pair)
    return emit(aten.div.Tensor, _conjugate(emit, pair), emit(aten.unsqueeze.default, size, len(shape_of(size))))


def _add(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    left, right = (_pair(node, emit, pairs, operand) for operand in node.args)
    return emit(node.target, left, right, **node.kwargs)  # type: ignore[arg-type]


def _choose(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    condition, left, right = node.args
    both = (_pair(node, emit, pairs, operand) for operand in (left, right))
    column = emit(aten.unsqueeze.default, condition, len(shape_of(condition)))  # type: ignore[arg-type]
    return emit(aten.where.self, column, *both)


def _exponential(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    real, imaginary = _parts(emit, pairs[node.args[0]])  # type: ignore[index]
    return _polar_form(emit, emit(aten.exp.default, real), imaginary)


def _polar(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    magnitude, angle = node.args
    return _polar_form(emit, magnitude, angle)  # type: ignore[arg-type]


def _polar_form(emit: Emitter, magnitude: Node, angle: Node) -> Node:
    mul = aten.mul.Tensor
    real = emit(mul, magnitude, emit(aten.cos.default, angle))
    return _join(emit, real, emit(mul, magnitude, emit(aten.sin.default, angle)))


def _from_parts(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    return emit(aten.stack.default, list(node.args), len(shape_of(node)))


def _as_complex(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    return node.args[0]  # type: ignore[return-value]


def _as_real(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    return pairs[node.args[0]]  # type: ignore[index]


def _magnitude(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    return emit(aten.sqrt.default, _square(emit, pairs[node.args[0]]))  # type: ignore[index]


def _angle(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    real, imaginary = _parts(emit, pairs[node.args[0]])  # type: ignore[index]
    return emit(aten.atan2.default, imaginary, real)


def _conj(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    return _conjugate(emit, pairs[node.args[0]])  # type: ignore[index]


def _to_copy(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    (x,) = node.args
    if is_complex(node):
        return _pair(node, emit, pairs, x)
    return _cast(emit, _parts(emit, pairs[x])[0], dtype_of(node))  # type: ignore[index]


def _sized(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    """An operator whose second argument is the size of its result."""
    return emit(node.target, pairs[node.args[0]], [*shape_of(node), 2])  # type: ignore[arg-type,index]


def _permute(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    order = dimension_arguments(node)["dims"]
    return emit(aten.permute.default, pairs[node.args[0]], [*order, len(order)])  # type: ignore[index]


def _repeat(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    x, counts = node.args
    return emit(aten.repeat.default, pairs[x], [*counts, 1])  # type: ignore[index,misc]


def _clone(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    return emit(aten.clone.default, pairs[node.args[0]])  # type: ignore[index]


def _joined(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    """`cat` and `stack`."""
    tensors = [_pair(node, emit, pairs, tensor) for tensor in node.args[0]]  # type: ignore[union-attr]
    return emit(node.target, tensors, dimension_arguments(node)["dim"])  # type: ignore[arg-type]


def _item(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    source, place = node.args
    return emit(operator.getitem, pairs[source], place)  # type: ignore[index]


def _reduced(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    """`sum` and `mean`, which reduce everything but the pairs when no dimension is named."""
    pair = pairs[node.args[0]]  # type: ignore[index]
    dims = dimension_arguments(node).get("dim", list(range(len(shape_of(pair)) - 1)))
    return emit(node.target, pair, dims, arguments_of(node)["keepdim"])  # type: ignore[arg-type]


def _along(node: Node, emit: Emitter, pairs: Pairs) -> Node:
    """An operator that does to pairs what it does to numbers, along dimensions counted from the front."""
    name = next(name for name, value in arguments_of(node).items() if value in pairs)
    return emit.changed(node, {**dimension_arguments(node), name: pairs[arguments_of(node)[name]]})


RULES: dict[Any, Rule] = {
    aten.view_as_complex.default: _as_complex, aten.view_as_real.default: _as_real,
    aten.complex.default: _from_parts, aten.polar.default: _polar, aten._to_copy.default: _to_copy,
    aten.abs.default: _magnitude, aten.angle.default: _angle, aten.exp.default: _exponential,
    aten._conj.default: _conj, aten._conj_physical.default: _conj, aten.conj_physical.default: _conj,
    aten.resolve_conj.default: _clone, aten.clone.default: _clone,
    aten.mul.Tensor: _multiply, aten.mul.Scalar: _multiply, aten.div.Tensor: _divide, aten.div.Scalar: _divide,
    aten.reciprocal.default: _reciprocal, aten.add.Tensor: _add, aten.sub.Tensor: _add, aten.where.self: _choose,
    aten.view.default: _sized, aten._unsafe_view.default: _sized, aten.reshape.default: _sized,
    aten.expand.default: _sized, aten.permute.default: _permute, aten.repeat.default: _repeat,
    aten.cat.default: _joined, aten.stack.default: _joined, operator.getitem: _item,
    aten.sum.dim_IntList: _reduced, aten.mean.dim: _reduced,
    **dict.fromkeys((
        aten.neg.default, aten.transpose.int, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims,
        aten.select.int, aten.slice.Tensor, aten.flip.default, aten.roll.default, aten.index_select.default,
        aten.index.Tensor, aten.split.Tensor, aten.split_with_sizes.default,
        aten.chunk.default, aten.unbind.int,
    ), _along),
}  # fmt: skip
"""The operators that may make or take complex numbers."""

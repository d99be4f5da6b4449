"""ONNX sequences, which exist at capture alone: a tuple of values, so that only splitting and joining are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
import torch
from onnx import helper

from penstock.frontends.onnx.module import SequenceValue, Value
from penstock.frontends.onnx.registry import UnsupportedFormError
from penstock.passes.core.shapes import fake_like

Compute = Callable[[onnx.NodeProto, Sequence[Value | None]], tuple[Value, ...]]
"""Computes a node of the operator table on values."""

OPERATORS = (
    "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
    "SequenceLength", "SplitToSequence",
)  # fmt: skip


def sequence_result(node: onnx.NodeProto, values: Sequence[Value | None], compute: Compute) -> Value:
    """The one result of a sequence operator.

    Raises:
        UnsupportedFormError: a position or a size depends on the model's inputs.
    """
    name = node.output[0]
    padded: list[Value | None] = [*values, None, None, None]
    first, second, third = padded[:3]
    if node.op_type == "SequenceEmpty":
        return _sequence(name, ())
    if node.op_type == "SequenceConstruct":
        return _sequence(name, [value for value in values if value is not None])
    assert first is not None
    if node.op_type == "SplitToSequence":
        return _sequence(name, _split(node, first, second, compute))
    items = list(_items(first))
    if node.op_type == "SequenceLength":
        return _known(name, len(items))
    if node.op_type == "ConcatFromSequence":
        return _join(node, items, compute)
    if node.op_type == "SequenceAt":
        return items[_number(second, 0)]
    if node.op_type == "SequenceErase":
        del items[_number(second, -1)]
    else:
        assert second is not None
        items.insert(_number(third, len(items)), second)
    return _sequence(name, items)


def _sequence(name: str, items: Sequence[Value]) -> SequenceValue:
    return SequenceValue(name, torch.empty(0), items=tuple(items))


def _items(value: Value) -> tuple[Value, ...]:
    if not isinstance(value, SequenceValue):
        raise UnsupportedFormError(f"its input '{value.name}' is not a sequence that is made in the graph")
    return value.items


def _known(name: str, data: int | list[int]) -> Value:
    tensor = torch.tensor(data, dtype=torch.int64)
    return Value(name, fake_like(tensor), tensor)


def _number(value: Value | None, default: int) -> int:
    if value is None:
        return default
    if value.known is None:
        raise UnsupportedFormError("its position depends on the model's inputs; positions must be constant")
    return int(value.known.item())


def _split(node: onnx.NodeProto, x: Value, split: Value | None, compute: Compute) -> list[Value]:
    axis, keepdims = _attribute(node, "axis", 0), _attribute(node, "keepdims", 1)
    extent = x.fake.shape[axis]
    if split is None or split.fake.dim() == 0:
        size = _number(split, 1)
        sizes = [min(size, extent - start) for start in range(0, extent, size)]
    elif split.known is not None:
        sizes = split.known.tolist()
    else:
        raise UnsupportedFormError("its sizes depend on the model's inputs; sizes must be constant")
    names = [f"{node.output[0]}_{index}" for index in range(len(sizes))]
    parts = list(compute(_like(node, "Split", names, axis=axis), [x, _known("", sizes)]))
    if split is not None or keepdims:
        return parts
    squeeze = [_like(node, "Squeeze", [name]) for name in names]
    return [compute(one, [part, _known("", [axis])])[0] for one, part in zip(squeeze, parts, strict=True)]


def _join(node: onnx.NodeProto, items: list[Value], compute: Compute) -> Value:
    axis = _attribute(node, "axis", 0)
    if _attribute(node, "new_axis", 0):
        unsqueeze = [_like(node, "Unsqueeze", [f"{node.output[0]}_{index}"]) for index in range(len(items))]
        items = [compute(one, [item, _known("", [axis])])[0] for one, item in zip(unsqueeze, items, strict=True)]
    return compute(_like(node, "Concat", list(node.output), axis=axis), items)[0]


def _like(node: onnx.NodeProto, operator: str, outputs: list[str], axis: int | None = None) -> onnx.NodeProto:
    """A node of another operator with the name and origin of `node`."""
    other = helper.make_node(operator, [], outputs, name=node.name)
    if axis is not None:
        other.attribute.append(helper.make_attribute("axis", axis))
    other.metadata_props.extend(node.metadata_props)
    return other


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), default)

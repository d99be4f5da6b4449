"""Operators that make tensors from numbers, shapes or other dtypes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from penstock.frontends.onnx.registry import UnsupportedFormError, onnx_op
from penstock.frontends.onnx.tensors import dtype_of_element_type, element_type_name, tensor_of_array
from penstock.passes.core.program import TensorSpec


def _dtype(element_type: int) -> torch.dtype:
    dtype = dtype_of_element_type(element_type)
    if dtype is None:
        raise UnsupportedFormError(f"it makes {element_type_name(element_type)}, which torch does not have")
    return dtype


@onnx_op("Constant")
def constant(
    *,
    value: np.ndarray | None = None,
    value_float: float | None = None,
    value_floats: tuple[float, ...] | None = None,
    value_int: int | None = None,
    value_ints: tuple[int, ...] | None = None,
) -> Tensor:
    """The value of the one attribute that is given."""
    if value is not None:
        return tensor_of_array(value)
    if value_int is not None or value_ints is not None:
        return torch.tensor(value_int if value_int is not None else value_ints, dtype=torch.int64)
    return torch.tensor(value_float if value_float is not None else value_floats, dtype=torch.float32)


@onnx_op("ConstantOfShape")
def constant_of_shape(shape: tuple[int, ...], *, value: np.ndarray | None = None) -> Tensor:
    """A tensor filled with one value, float32 zero by default."""
    fill = tensor_of_array(np.zeros(1, np.float32) if value is None else value)
    return torch.full(shape, fill.item(), dtype=fill.dtype)


@onnx_op("Range")
def arange(start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> Tensor:
    """Numbers from `start` up to but without `limit`, in the dtype of `start`."""
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=tensor_of_array(start).dtype)


@onnx_op("EyeLike")
def eye_like(x: TensorSpec, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Ones on a diagonal, in the shape of another tensor."""
    ones = torch.ones(x.shape, dtype=_dtype(dtype) if dtype is not None else x.dtype)
    return torch.triu(torch.tril(ones, k), k)


@onnx_op("Shape")
def shape(x: TensorSpec, *, start: int = 0, end: int | None = None) -> Tensor:
    """The extents of a tensor, those from `start` up to `end`."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@onnx_op("Size")
def size(x: TensorSpec) -> Tensor:
    """How many elements a tensor has."""
    return torch.tensor(torch.Size(x.shape).numel(), dtype=torch.int64)


@onnx_op("Cast")
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Another dtype; `saturate` and `round_mode` matter to 8-bit floats alone."""
    return x.to(_dtype(to))


@onnx_op("CastLike", since=15)
def cast_like(x: Tensor, target: TensorSpec, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """The dtype of another tensor."""
    return x.to(target.dtype)


@onnx_op("BitCast", since=26)
def bit_cast(x: Tensor, *, to: int) -> Tensor:
    """The same bits as another dtype."""
    return x.view(_dtype(to))


@onnx_op("OneHot")
def one_hot(indices: Tensor, depth: int, values: Tensor, *, axis: int = -1) -> Tensor:
    """A new axis of extent `depth` with ``values[1]`` at the index and ``values[0]`` elsewhere.

    An index may count from the end; outside of the axis it selects nothing.
    """
    rank = indices.dim() + 1
    axis %= rank
    places = torch.arange(depth).reshape([depth if dim == axis else 1 for dim in range(rank)])
    wanted = indices.to(torch.int64).unsqueeze(axis)
    hit = torch.eq(torch.where(wanted < 0, wanted + depth, wanted), places)
    return torch.where(hit, values[1], values[0])

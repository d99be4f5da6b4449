"""ONNX tensors and element types as torch tensors and dtypes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from penstock.passes.core.errors import UsageError

_DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.BFLOAT16: torch.bfloat16,
}


def dtype_of_element_type(element_type: int) -> torch.dtype | None:
    """The torch dtype of an ONNX element type, or None where torch has none (strings, 4-bit and 8-bit floats)."""
    return _DTYPES.get(element_type)


def element_type_name(element_type: int) -> str:
    """``FLOAT8E4M3FN``: ONNX's name of an element type."""
    known: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
    return known.get(element_type, f"element type {element_type}")


def tensor_of_proto(proto: onnx.TensorProto, folder: Path) -> torch.Tensor:
    """A torch copy of an ONNX tensor.

    Args:
        folder: where the files of tensors that are stored outside the model lie.

    Raises:
        UsageError: an element type that torch lacks, data that does not fill the shape, or a missing data file.
    """
    dtype = dtype_of_element_type(proto.data_type)
    if dtype is None:
        raise UsageError(f"tensor '{proto.name}' holds {element_type_name(proto.data_type)}, which torch does not have")
    try:
        array = numpy_helper.to_array(proto, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UsageError(f"the data of tensor '{proto.name}' cannot be read: {str(error).splitlines()[0]}") from error
    return tensor_of_array(array)


def tensor_of_array(array: np.ndarray) -> torch.Tensor:
    """A torch copy of a numpy array; bfloat16 arrays (of ``ml_dtypes``) keep their dtype."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def array_of_tensor(tensor: torch.Tensor) -> np.ndarray:
    """The values of a torch tensor; bfloat16 comes in the dtype of ``ml_dtypes``."""
    array: np.ndarray
    if tensor.dtype == torch.bfloat16:
        array = tensor.view(torch.int16).numpy().view(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    else:
        array = tensor.numpy()
    return array

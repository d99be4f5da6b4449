"""Matrix products other than MatMul, which torch has as it stands (see `elementwise`)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from penstock.frontends.onnx.registry import onnx_op


@onnx_op("Gemm")
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_a: int = 0,
    trans_b: int = 0,
) -> Tensor:
    """``alpha * a @ b + beta * c`` of matrices, of which the first two may be transposed; linear where it is one."""
    a = a.t() if trans_a else a
    if alpha == beta == 1.0 and (c is None or c.dim() == 1):
        return F.linear(a, b if trans_b else b.t(), c)
    product = torch.matmul(a, b.t() if trans_b else b)
    product = product if alpha == 1.0 else product * alpha
    if c is None:
        return product
    return product + (c if beta == 1.0 else c * beta)


@onnx_op("Einsum")
def einsum(*tensors: Tensor, equation: str) -> Tensor:
    """A sum of products, written in Einstein's notation."""
    return torch.einsum(equation, *tensors)


@onnx_op("Det")
def determinant(x: Tensor) -> Tensor:
    """The determinant of the matrices in the last two dimensions."""
    result: Tensor = torch.linalg.det(x)
    return result

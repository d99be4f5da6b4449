"""Attention that never holds the score matrix: the common door to the kernels of CPUs and GPUs.

Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3; Dao et al.,
"FlashAttention", 2022, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax

from penstock.backends.tvm.layouts import Layout, dense, laid_out, parameter_shape, stored
from penstock.backends.tvm.ops.emit import Expr, dtype_of, shape_of
from penstock.backends.tvm.ops.scan import on_gpu
from penstock.backends.tvm.schedules.attention import Attention
from penstock.backends.tvm.schedules.cpu.attention import cpu_attention
from penstock.backends.tvm.schedules.gpu.attention import gpu_attention


def emit_attention(
    builder: Any,
    query: Expr,
    key: Expr,
    value: Expr,
    mask: Expr | None,
    *,
    scale: float,
    causal: bool,
    result: Sequence[int] = (0, 1, 2, 3),
) -> Expr:
    """softmax(query · keyᵀ · scale + mask) · value, accumulated in float32.

    A query whose every key is masked with -inf yields zeros, as in PyTorch. Operands that are views are read where
    they lie. Call it inside ``with target:``.

    Args:
        builder: the Relax block builder that takes the kernel.
        query: [batch, heads, queries, width], float16 or float32.
        key: [batch, heads, keys, width].
        value: [batch, heads, keys, value width].
        mask: added to the scores; broadcasts to [batch, heads, queries, keys]. None for none.
        scale: multiplies the scores before the mask.
        causal: query i sees keys 0 … i only.
        result: the order in which the dimensions of the result are stored.

    Returns:
        [batch, heads, queries, value width] in the dtype of `query`, with the dimensions in the order of `result`.
    """
    batch, heads, queries, width = shape_of(query)
    keys, value_width = shape_of(value)[2:]
    case = Attention(
        batch=batch,
        heads=heads,
        queries=queries,
        keys=keys,
        width=width,
        value_width=value_width,
        dtype=dtype_of(query),
        mask_shape=None if mask is None else shape_of(mask),
        mask_dtype="float32" if mask is None else dtype_of(mask),
        scale=float(scale),
        causal=causal,
    )
    kernel = gpu_attention(case) if on_gpu() else cpu_attention(case)
    sources, layouts = zip(*(stored(builder, operand) for operand in (query, key, value)), strict=True)
    operands = [*sources, *([] if mask is None else [mask])]
    written = (batch, heads, queries, value_width)
    shape = tuple(written[dim] for dim in result)
    placed = Layout.of(dense(shape).permute([list(result).index(dim) for dim in range(4)]))
    scheduled = laid_out(kernel, {**dict(enumerate(layouts)), len(operands): placed})
    type_ = relax.TensorType(parameter_shape(written, placed), case.dtype)
    call = relax.call_tir(builder.add_func(scheduled, "attention"), operands, type_)
    made = builder.emit(call, name_hint="attention")
    return made if shape_of(made) == shape else builder.emit(relax.op.reshape(made, shape), name_hint="attention")

"""Attention that never holds the score matrix: softmax by a running maximum and a running sum.

A query is a line, which one thread (on a CPU, one task) takes. It walks over the keys in small blocks and keeps three:
the largest score so far, the sum of exponentials relative to it, and the weighted sum of values relative to it. A new
largest score rescales the other two. Memory is one row of the result per thread, whatever the number of keys.

Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3; Dao et al.,
"FlashAttention", 2022, section 3.1, without its blocking of queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from tvm import relax
from tvm.script import tirx as T

from penstock.backends.tvm.layouts import Layout, dense, laid_out, parameter_shape, stored
from penstock.backends.tvm.ops.emit import Expr, dtype_of, shape_of
from penstock.backends.tvm.ops.scan import on_gpu, one_thread_per_line, private_scope

_KEYS = 16
"""Keys per block, at most: one rescaling serves them all."""
_LANES = 16
"""Partial sums of a dot product on a CPU, at most: they add up side by side, in one vector register."""


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
    lanes = 1 if on_gpu() else _largest_divisor(width, _LANES)
    dtype = dtype_of(query)
    mask_shape = None if mask is None else shape_of(mask)
    mask_dtype = None if mask is None else dtype_of(mask)
    kernel = _kernel(
        (batch, heads, queries, width),
        (keys, value_width),
        dtype,
        (mask_shape, mask_dtype or dtype),
        lanes,
        float(scale),
        causal,
        private_scope(),
    )
    sources, layouts = zip(*(stored(builder, operand) for operand in (query, key, value)), strict=True)
    operands = [*sources, *([] if mask is None else [mask])]
    written = (batch, heads, queries, value_width)
    shape = tuple(written[dim] for dim in result)
    placed = Layout.of(dense(shape).permute([list(result).index(dim) for dim in range(4)]))
    scheduled = laid_out(one_thread_per_line(kernel), {**dict(enumerate(layouts)), len(operands): placed})
    type_ = relax.TensorType(parameter_shape(written, placed), dtype)
    made = builder.emit(relax.call_tir(builder.add_func(scheduled, "attention"), operands, type_))
    return made if shape_of(made) == shape else builder.emit(relax.op.reshape(made, shape))


def _largest_divisor(extent: int, limit: int) -> int:
    return next(size for size in range(min(extent, limit), 0, -1) if extent % size == 0)


@cache
def _kernel(
    query_shape: tuple[int, int, int, int],
    value_shape: tuple[int, int],
    dtype: str,
    mask: tuple[tuple[int, ...] | None, str],
    lanes: int,
    scale: float,
    causal: bool,
    private: str,
) -> Any:
    batch, heads, queries, width = query_shape
    keys, value_width = value_shape
    mask_shape, mask_dtype = mask
    block = _largest_divisor(keys, _KEYS)
    has_mask = mask_shape is not None
    # A broadcast dimension of the mask is read at 0: the stride is 0 there and 1 elsewhere.
    extents = mask_shape or (1, 1, 1, 1)
    step = [0 if extent == 1 else 1 for extent in extents]

    @T.macro
    def attend(q, k, v, m, o):  # type: ignore[no-untyped-def]
        for i0, i1, i2 in T.grid(batch, heads, queries):
            with T.sblock("line"):
                b, h, i = T.axis.remap("SSS", [i0, i1, i2])
                T.reads(q[b, h, i, 0:width], k[b, h, 0:keys, 0:width], v[b, h, 0:keys, 0:value_width])
                T.writes(o[b, h, i, 0:value_width])
                row = T.alloc_buffer((width,), "float32", scope=private)
                partial = T.alloc_buffer((lanes,), "float32", scope=private)
                score = T.alloc_buffer((block,), "float32", scope=private)
                weighted = T.alloc_buffer((value_width,), "float32", scope=private)
                largest = T.alloc_buffer((1,), "float32", scope=private)
                base = T.alloc_buffer((1,), "float32", scope=private)
                rescale = T.alloc_buffer((1,), "float32", scope=private)
                total = T.alloc_buffer((1,), "float32", scope=private)
                for d in range(width):
                    row[d] = T.cast(q[b, h, i, d], "float32") * T.float32(scale)
                for d in range(value_width):
                    weighted[d] = T.float32(0)
                largest[0] = T.float32("-inf")
                total[0] = T.float32(0)
                for first in range(keys // block):
                    base[0] = largest[0]
                    for j in range(block):
                        for lane in T.vectorized(lanes):
                            partial[lane] = T.float32(0)
                        for d in range(width // lanes):
                            for lane in T.vectorized(lanes):
                                partial[lane] = partial[lane] + row[d * lanes + lane] * T.cast(
                                    k[b, h, first * block + j, d * lanes + lane], "float32"
                                )
                        score[j] = T.float32(0)
                        for lane in range(lanes):
                            score[j] = score[j] + partial[lane]
                        if has_mask:
                            score[j] = score[j] + T.cast(
                                m[b * step[0], h * step[1], i * step[2], (first * block + j) * step[3]], "float32"
                            )
                        if causal:
                            score[j] = T.if_then_else(first * block + j <= i, score[j], T.float32("-inf"))
                        largest[0] = T.max(largest[0], score[j])
                    # While every score is -inf there is nothing to be relative to; 0 keeps -inf - (-inf) away.
                    rescale[0] = T.if_then_else(base[0] == T.float32("-inf"), T.float32(0), T.exp(base[0] - largest[0]))
                    base[0] = T.if_then_else(largest[0] == T.float32("-inf"), T.float32(0), largest[0])
                    total[0] = total[0] * rescale[0]
                    for d in range(value_width):
                        weighted[d] = weighted[d] * rescale[0]
                    for j in range(block):
                        score[j] = T.exp(score[j] - base[0])
                        total[0] = total[0] + score[j]
                        for d in range(value_width):
                            weighted[d] = weighted[d] + score[j] * T.cast(v[b, h, first * block + j, d], "float32")
                for d in range(value_width):
                    o[b, h, i, d] = T.cast(
                        T.if_then_else(total[0] == T.float32(0), T.float32(0), weighted[d] / total[0]), dtype
                    )

    if has_mask:

        @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
        def masked(query: T.handle, key: T.handle, value: T.handle, mask: T.handle, result: T.handle):  # type: ignore[no-untyped-def]
            q = T.match_buffer(query, (batch, heads, queries, width), dtype)
            k = T.match_buffer(key, (batch, heads, keys, width), dtype)
            v = T.match_buffer(value, (batch, heads, keys, value_width), dtype)
            m = T.match_buffer(mask, (extents[0], extents[1], extents[2], extents[3]), mask_dtype)
            o = T.match_buffer(result, (batch, heads, queries, value_width), dtype)
            attend(q, k, v, m, o)

        return masked

    @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
    def unmasked(query: T.handle, key: T.handle, value: T.handle, result: T.handle):  # type: ignore[no-untyped-def]
        q = T.match_buffer(query, (batch, heads, queries, width), dtype)
        k = T.match_buffer(key, (batch, heads, keys, width), dtype)
        v = T.match_buffer(value, (batch, heads, keys, value_width), dtype)
        o = T.match_buffer(result, (batch, heads, queries, value_width), dtype)
        attend(q, k, v, q, o)

    return unmasked

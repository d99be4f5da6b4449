"""Attention of a few queries on a CPU: a task per query, which walks over the keys.

It keeps three: the largest score so far, the sum of exponentials relative to it, and the weighted sum of values
relative to it. A new largest score rescales the other two.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from penstock.backends.tvm.ops.scan import one_thread_per_line
from penstock.backends.tvm.schedules.attention import Attention, largest_divisor, rebase

_KEYS = 16
"""Keys per block, at most: one rescaling serves them all."""
_LANES = 16
"""Partial sums of a dot product, at most: they add up side by side, in one vector register."""


@cache
def single_queries(case: Attention) -> Any:
    """The scheduled kernel: parameters query, key, value, the mask if there is one, and result, all of rank 4."""
    batch, heads, queries, width = case.batch, case.heads, case.queries, case.width
    keys, value_width, dtype = case.keys, case.value_width, case.dtype
    scale, causal, mask_dtype = case.scale, case.causal, case.mask_dtype
    block = largest_divisor(keys, _KEYS)
    lanes = largest_divisor(width, _LANES)
    has_mask = case.mask_shape is not None
    # A broadcast dimension of the mask is read at 0: the stride is 0 there and 1 elsewhere.
    extents = case.mask_shape or (1, 1, 1, 1)
    step = [0 if extent == 1 else 1 for extent in extents]

    @T.macro
    def attend(q, k, v, m, o):  # type: ignore[no-untyped-def]
        for i0, i1, i2 in T.grid(batch, heads, queries):
            with T.sblock("line"):
                b, h, i = T.axis.remap("SSS", [i0, i1, i2])
                T.reads(q[b, h, i, 0:width], k[b, h, 0:keys, 0:width], v[b, h, 0:keys, 0:value_width])
                T.writes(o[b, h, i, 0:value_width])
                row = T.alloc_buffer((width,), "float32", scope="global")
                partial = T.alloc_buffer((lanes,), "float32", scope="global")
                score = T.alloc_buffer((block,), "float32", scope="global")
                weighted = T.alloc_buffer((value_width,), "float32", scope="global")
                largest = T.alloc_buffer((1,), "float32", scope="global")
                base = T.alloc_buffer((1,), "float32", scope="global")
                rescale = T.alloc_buffer((1,), "float32", scope="global")
                total = T.alloc_buffer((1,), "float32", scope="global")
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
                    rebase(largest, base, rescale, total, 0)
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

        return one_thread_per_line(masked)

    @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
    def unmasked(query: T.handle, key: T.handle, value: T.handle, result: T.handle):  # type: ignore[no-untyped-def]
        q = T.match_buffer(query, (batch, heads, queries, width), dtype)
        k = T.match_buffer(key, (batch, heads, keys, width), dtype)
        v = T.match_buffer(value, (batch, heads, keys, value_width), dtype)
        o = T.match_buffer(result, (batch, heads, queries, value_width), dtype)
        attend(q, k, v, q, o)

    return one_thread_per_line(unmasked)

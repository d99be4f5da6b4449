"""Attention for devices on which threads should not wait for each other: CPUs that run OpenCL through PoCL.

    thread        keys → (blocks of up to 16)
      0    4 queries │ scores 4 × 16 │ …     each block: scores, maximum, exponentials, then every vector of value
      1    4 queries │               │ …     columns takes the whole block before it goes back to the stack

A thread takes four queries, so that each vector of keys and values that it loads serves four; scores and sums stay with
the thread. No local memory, no barriers. A GPU would spill: there `tiled_attention` is used.

Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm import s_tir
from tvm.script import tirx as T

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.attention import Attention, largest_divisor, rebase
from penstock.backends.tvm.schedules.gpu.device import vector_lanes

_QUERIES = 4
_KEYS = 16
_THREADS = 4
"""Threads of a work-group, which is what PoCL gives to a core."""


@cache
def streaming_attention(case: Attention, device: Target) -> Any:
    """The scheduled kernel: parameters query, key, value, the mask if there is one, and result, all of rank 4."""
    batch, heads, queries, width = case.batch, case.heads, case.queries, case.width
    keys, value_width, dtype = case.keys, case.value_width, case.dtype
    scale, causal, mask_dtype = case.scale, case.causal, case.mask_dtype
    has_mask = case.mask_shape is not None
    # A broadcast dimension of the mask is read at 0: the stride is 0 there and 1 elsewhere.
    extents = case.mask_shape or (1, 1, 1, 1)
    step = [0 if extent == 1 else 1 for extent in extents]
    own, block = largest_divisor(queries, _QUERIES), largest_divisor(keys, _KEYS)
    lanes = vector_lanes(device, 4, width)
    together = vector_lanes(device, 4, block)
    wide = vector_lanes(device, 4, value_width)

    @T.macro
    def attend(q, k, v, m, o):  # type: ignore[no-untyped-def]
        for i0, i1, i2 in T.grid(batch, heads, queries // own):
            with T.sblock("line"):
                b, h, i = T.axis.remap("SSS", [i0, i1, i2])
                T.reads(
                    q[b, h, i * own : i * own + own, 0:width], k[b, h, 0:keys, 0:width], v[b, h, 0:keys, 0:value_width]
                )
                T.writes(o[b, h, i * own : i * own + own, 0:value_width])
                row = T.alloc_buffer((own, width), "float32", scope="local")
                partial = T.alloc_buffer((own, lanes), "float32", scope="local")
                element = T.alloc_buffer((max(lanes, wide),), "float32", scope="local")
                score = T.alloc_buffer((own, block), "float32", scope="local")
                weighted = T.alloc_buffer((own, value_width), "float32", scope="local")
                tile = T.alloc_buffer((own, wide), "float32", scope="local")
                largest = T.alloc_buffer((own,), "float32", scope="local")
                base = T.alloc_buffer((own,), "float32", scope="local")
                rescale = T.alloc_buffer((own,), "float32", scope="local")
                total = T.alloc_buffer((own,), "float32", scope="local")
                for a in T.unroll(own):
                    for d in range(width):
                        row[a, d] = T.cast(q[b, h, i * own + a, d], "float32") * T.float32(scale)
                    for d in range(value_width):
                        weighted[a, d] = T.float32(0)
                    largest[a] = T.float32("-inf")
                    total[a] = T.float32(0)
                for first in range(keys // block):
                    for a in T.unroll(own):
                        base[a] = largest[a]
                    for j in range(block):
                        for a in T.unroll(own):
                            for lane in T.vectorized(lanes):
                                partial[a, lane] = T.float32(0)
                        for d in range(width // lanes):
                            for lane in T.vectorized(lanes):
                                element[lane] = T.cast(k[b, h, first * block + j, d * lanes + lane], "float32")
                            for a in T.unroll(own):
                                for lane in T.vectorized(lanes):
                                    partial[a, lane] = partial[a, lane] + row[a, d * lanes + lane] * element[lane]
                        for a in T.unroll(own):
                            score[a, j] = T.float32(0)
                            for lane in T.unroll(lanes):
                                score[a, j] = score[a, j] + partial[a, lane]
                            if has_mask:
                                score[a, j] = score[a, j] + T.cast(
                                    m[
                                        b * step[0],
                                        h * step[1],
                                        (i * own + a) * step[2],
                                        (first * block + j) * step[3],
                                    ],
                                    "float32",
                                )
                            if causal:
                                score[a, j] = T.if_then_else(
                                    first * block + j <= i * own + a, score[a, j], T.float32("-inf")
                                )
                            largest[a] = T.max(largest[a], score[a, j])
                    for a in T.unroll(own):
                        rebase(largest, base, rescale, total, a)
                        for j in range(block // together):
                            for lane in T.vectorized(together):
                                score[a, j * together + lane] = T.exp(score[a, j * together + lane] - base[a])
                        for j in range(block):
                            total[a] = total[a] + score[a, j]
                    for d in range(value_width // wide):
                        for a in T.unroll(own):
                            for lane in T.vectorized(wide):
                                tile[a, lane] = weighted[a, d * wide + lane] * rescale[a]
                        for j in T.unroll(block):
                            for lane in T.vectorized(wide):
                                element[lane] = T.cast(v[b, h, first * block + j, d * wide + lane], "float32")
                            for a in T.unroll(own):
                                for lane in T.vectorized(wide):
                                    tile[a, lane] = tile[a, lane] + score[a, j] * element[lane]
                        for a in T.unroll(own):
                            for lane in T.vectorized(wide):
                                weighted[a, d * wide + lane] = tile[a, lane]
                for a in T.unroll(own):
                    # A query that sees nothing gets zeros, as in PyTorch.
                    rescale[a] = T.if_then_else(total[a] == T.float32(0), T.float32(0), T.float32(1) / total[a])
                    for d in range(value_width // wide):
                        for lane in T.vectorized(wide):
                            o[b, h, i * own + a, d * wide + lane] = T.cast(
                                weighted[a, d * wide + lane] * rescale[a], dtype
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

        return _scheduled(masked)

    @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
    def unmasked(query: T.handle, key: T.handle, value: T.handle, result: T.handle):  # type: ignore[no-untyped-def]
        q = T.match_buffer(query, (batch, heads, queries, width), dtype)
        k = T.match_buffer(key, (batch, heads, keys, width), dtype)
        v = T.match_buffer(value, (batch, heads, keys, value_width), dtype)
        o = T.match_buffer(result, (batch, heads, queries, value_width), dtype)
        attend(q, k, v, q, o)

    return _scheduled(unmasked)


def _scheduled(function: Any) -> Any:
    schedule = s_tir.Schedule(function)
    lines = schedule.fuse(*schedule.get_loops(schedule.get_sblock("line")))
    block, thread = schedule.split(lines, [None, _THREADS])
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)

"""Attention on a GPU: tiles of queries and keys meet in registers, and only probabilities pass through local memory.

For attention of any width, masked, causal or neither; keys and values stream past and are never stored.

               keys → (blocks of TK·2)                         value columns → (TK vectors)
              ┌────┬────┬───────────┐                           ┌────┬────┬───────────┐
      queries │ s  │    │           │    maximum, exp           │ o  │    │           │
      TQ·4    │4×2 │    │           │  ───────────────►  p  ·   │4×V │    │           │
              └────┴────┴───────────┘    (local memory)         └────┴────┴───────────┘
               a thread: scores of 4 queries × 2 keys            a thread: 4 queries × 1 or more vectors of columns

A work-group of TQ × TK threads takes TQ·4 queries of one head. For each block of keys it makes the scores, agrees on
the largest so far, replaces scores by exponentials, and adds the weighted values; a new largest score rescales what was
added before. Keys and values are read once per TQ·4 queries. Short sequences, as over the frames of a video, share a
work-group, each with a tile of its own, so that waves are full.

Expected: 2·4·2·V operations per 6 vectors loaded for the scores, 2·4·V per vector of values and of probabilities; local
memory of a few KiB, so that Apple's and Qualcomm's GPUs keep several work-groups per core. On Mali it lies in the
first-level cache. Wide heads (512) take more threads along the columns, not more registers.

Source: Dao et al., "FlashAttention", 2022, algorithm 1, with the queries outside as in its second version (2023).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm.script import tirx as T

from penstock.backends.targets import Target
from penstock.backends.tvm.schedules.attention import Attention, largest_divisor, rebase
from penstock.backends.tvm.schedules.gpu.device import vector_lanes

_QUERIES = 4
"""Queries of a thread, at most."""
_KEYS = 2
"""Keys of a thread."""
_MOST_COLUMNS = 64
"""Threads along the columns, at most."""


def _covering(extent: int, limit: int) -> int:
    """The smallest power of two that covers an extent, within a limit."""
    size = 1
    while size < extent and 2 * size <= limit:
        size *= 2
    return size


def _groups(case: Attention, tile: int) -> int:
    """Work-groups, if each takes so many queries of one head."""
    return case.batch * case.heads * -(-case.queries // tile)


@cache
def tiled_attention(case: Attention, device: Target) -> Any:
    """The scheduled kernel: parameters query, key, value, the mask if there is one, and result, all of rank 4."""
    batch, heads, queries, width = case.batch, case.heads, case.queries, case.width
    keys, value_width, dtype = case.keys, case.value_width, case.dtype
    scale, causal, mask_dtype = case.scale, case.causal, case.mask_dtype
    has_mask = case.mask_shape is not None
    # A broadcast dimension of the mask is read at 0: the stride is 0 there and 1 elsewhere.
    extents = case.mask_shape or (1, 1, 1, 1)
    step = [0 if extent == 1 else 1 for extent in extents]

    lanes = vector_lanes(device, 4, width)
    wide = vector_lanes(device, 4, value_width)
    vectors = value_width // wide
    own = _covering(queries, _QUERIES)
    across = _covering(max(vectors, -(-keys // _KEYS)), min(_MOST_COLUMNS, max(16, _covering(vectors, 64))))
    down = _covering(-(-queries // own), max(1, device.compute.threads // across))
    # Few queries of few heads are spread over all compute units, as far as that leaves whole waves.
    while (
        down > 1 and down * across > device.limits.subgroup and _groups(case, down * own) < device.compute.compute_units
    ):
        down //= 2
    columns = -(-vectors // across)
    tile, block = down * own, across * _KEYS
    groups, blocks = -(-queries // tile), -(-keys // block)
    # Short sequences, as over the frames of a video, share a work-group.
    room = max(1, device.compute.threads // (down * across))
    while (
        room * down * across > device.limits.subgroup and batch * heads * groups < room * device.compute.compute_units
    ):
        room //= 2
    together = largest_divisor(batch * heads, max(1, room))

    @T.macro
    def attend(q, k, v, m, o):  # type: ignore[no-untyped-def]
        for line in T.thread_binding(batch * heads // together, thread="blockIdx.y"):
            for group in T.thread_binding(groups, thread="blockIdx.x"):
                for tz in T.thread_binding(together, thread="threadIdx.z"):
                    for ty in T.thread_binding(down, thread="threadIdx.y"):
                        for tx in T.thread_binding(across, thread="threadIdx.x"):
                            with T.sblock("tile"):
                                T.reads()
                                T.writes()
                                b = T.meta_var((line * together + tz) // heads)
                                h = T.meta_var((line * together + tz) % heads)
                                probability = T.alloc_buffer((together, block, tile), "float32", scope="shared")
                                highest = T.alloc_buffer((together, across, tile), "float32", scope="shared")
                                row = T.alloc_buffer((own, lanes), "float32", scope="local")
                                column = T.alloc_buffer((_KEYS, lanes), "float32", scope="local")
                                partial = T.alloc_buffer((own, _KEYS, lanes), "float32", scope="local")
                                score = T.alloc_buffer((own, _KEYS), "float32", scope="local")
                                weighted = T.alloc_buffer((own, columns, wide), "float32", scope="local")
                                weight = T.alloc_buffer((own,), "float32", scope="local")
                                element = T.alloc_buffer((wide,), "float32", scope="local")
                                largest = T.alloc_buffer((own,), "float32", scope="local")
                                base = T.alloc_buffer((own,), "float32", scope="local")
                                rescale = T.alloc_buffer((own,), "float32", scope="local")
                                total = T.alloc_buffer((own,), "float32", scope="local")
                                for a in T.unroll(own):
                                    largest[a] = T.float32("-inf")
                                    total[a] = T.float32(0)
                                    for c in T.unroll(columns):
                                        for lane in T.vectorized(wide):
                                            weighted[a, c, lane] = T.float32(0)
                                for first in range(blocks):
                                    for a, j in T.grid(own, _KEYS):
                                        for lane in T.vectorized(lanes):
                                            partial[a, j, lane] = T.float32(0)
                                    for d in range(width // lanes):
                                        for a in T.unroll(own):
                                            for lane in T.vectorized(lanes):
                                                row[a, lane] = T.cast(
                                                    q[
                                                        b,
                                                        h,
                                                        T.min(group * tile + ty * own + a, queries - 1),
                                                        d * lanes + lane,
                                                    ],
                                                    "float32",
                                                )
                                        for j in T.unroll(_KEYS):
                                            for lane in T.vectorized(lanes):
                                                column[j, lane] = T.cast(
                                                    k[
                                                        b,
                                                        h,
                                                        T.min(first * block + j * across + tx, keys - 1),
                                                        d * lanes + lane,
                                                    ],
                                                    "float32",
                                                )
                                        for a in T.unroll(own):
                                            for j in T.unroll(_KEYS):
                                                for lane in T.vectorized(lanes):
                                                    partial[a, j, lane] = (
                                                        partial[a, j, lane] + row[a, lane] * column[j, lane]
                                                    )
                                    for a in T.unroll(own):
                                        for j in T.unroll(_KEYS):
                                            score[a, j] = T.float32(0)
                                            for lane in T.unroll(lanes):
                                                score[a, j] = score[a, j] + partial[a, j, lane]
                                            score[a, j] = score[a, j] * T.float32(scale)
                                            if has_mask:
                                                score[a, j] = score[a, j] + T.cast(
                                                    m[
                                                        b * step[0],
                                                        h * step[1],
                                                        T.min(group * tile + ty * own + a, queries - 1) * step[2],
                                                        T.min(first * block + j * across + tx, keys - 1) * step[3],
                                                    ],
                                                    "float32",
                                                )
                                            if causal:
                                                score[a, j] = T.if_then_else(
                                                    first * block + j * across + tx <= group * tile + ty * own + a,
                                                    score[a, j],
                                                    T.float32("-inf"),
                                                )
                                            if keys % block != 0:
                                                score[a, j] = T.if_then_else(
                                                    first * block + j * across + tx < keys,
                                                    score[a, j],
                                                    T.float32("-inf"),
                                                )
                                        highest[tz, tx, ty * own + a] = T.max(score[a, 0], score[a, 1])
                                    T.evaluate(T.tvm_storage_sync("shared"))
                                    for a in T.unroll(own):
                                        base[a] = largest[a]
                                    for t in range(across):
                                        for a in T.unroll(own):
                                            largest[a] = T.max(largest[a], highest[tz, t, ty * own + a])
                                    for a in T.unroll(own):
                                        rebase(largest, base, rescale, total, a)
                                        for j in T.unroll(_KEYS):
                                            probability[tz, j * across + tx, ty * own + a] = T.exp(
                                                score[a, j] - base[a]
                                            )
                                        for c in T.unroll(columns):
                                            for lane in T.vectorized(wide):
                                                weighted[a, c, lane] = weighted[a, c, lane] * rescale[a]
                                    T.evaluate(T.tvm_storage_sync("shared"))
                                    for j in range(block):
                                        for a in T.vectorized(own):
                                            weight[a] = probability[tz, j, ty * own + a]
                                        for a in T.unroll(own):
                                            total[a] = total[a] + weight[a]
                                        for c in T.unroll(columns):
                                            for lane in T.vectorized(wide):
                                                element[lane] = T.cast(
                                                    v[
                                                        b,
                                                        h,
                                                        T.min(first * block + j, keys - 1),
                                                        T.min(c * across + tx, vectors - 1) * wide + lane,
                                                    ],
                                                    "float32",
                                                )
                                            for a in T.unroll(own):
                                                for lane in T.vectorized(wide):
                                                    weighted[a, c, lane] = (
                                                        weighted[a, c, lane] + weight[a] * element[lane]
                                                    )
                                    T.evaluate(T.tvm_storage_sync("shared"))
                                for a in T.unroll(own):
                                    for c in T.unroll(columns):
                                        if group * tile + ty * own + a < queries and c * across + tx < vectors:
                                            for lane in T.vectorized(wide):
                                                o[
                                                    b,
                                                    h,
                                                    group * tile + ty * own + a,
                                                    (c * across + tx) * wide + lane,
                                                ] = T.cast(
                                                    weighted[a, c, lane]
                                                    * T.if_then_else(
                                                        total[a] == T.float32(0), T.float32(0), T.float32(1) / total[a]
                                                    ),
                                                    dtype,
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

        return masked.with_attr("tirx.is_scheduled", True)

    @T.prim_func(private=True, s_tir=True)  # type: ignore[untyped-decorator]
    def unmasked(query: T.handle, key: T.handle, value: T.handle, result: T.handle):  # type: ignore[no-untyped-def]
        q = T.match_buffer(query, (batch, heads, queries, width), dtype)
        k = T.match_buffer(key, (batch, heads, keys, width), dtype)
        v = T.match_buffer(value, (batch, heads, keys, value_width), dtype)
        o = T.match_buffer(result, (batch, heads, queries, value_width), dtype)
        attend(q, k, v, q, o)

    return unmasked.with_attr("tirx.is_scheduled", True)

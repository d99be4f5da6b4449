"""Attention on a CPU: blocks of queries, one in each lane, over blocks of keys.

Vectors hold the same quantity of several queries, so that nothing is ever summed across lanes. Both products are
register tiles: scores with keys as rows and the width as depth, and values with the width as rows and keys as depth.
Between them the softmax runs over a block of scores with a maximum and a sum per query (lane), which the next block of
keys corrects::

                     32 queries (2 vectors)
                  ┌──────────────┐
       keys       │ scores       │ = keys · queriesᵀ        tile: 12 keys × 32 queries
       (≤ 128)    │ → weights    │ = exp(scores - largest)
                  └──────────────┘
       width      │ result       │ = result · correction + valuesᵀ · weights
                  └──────────────┘

Arithmetic: 2 · queries · keys · (width + value width), and an exponential per score. Traffic: keys and values once per
block of queries, from the second-level cache where a head's fit. Scratch: a block of scores and 2 × width lines.

Source: Dao et al., "FlashAttention", 2022; Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.script import tirx as T
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as build

from penstock.backends.tvm.schedules.attention import Attention
from penstock.backends.tvm.schedules.cpu.kernel import cores, tasks
from penstock.backends.tvm.schedules.cpu.tile import (
    Expr,
    Registers,
    Tile,
    best_tile,
    index,
    loops,
    multiply,
    ramp,
    spread,
    unravel,
    vectors_of,
    wide,
)

_QUERY_VECTORS = 2
_KEYS = 128
"""Keys of a block, about: their scores fit the first-level cache."""
_LEAST = -3.4028234663852886e38
"""The largest of no scores, or of -inf only: the least finite number, so that differences are numbers."""


def query_blocks(case: Attention, registers: Registers) -> Any:
    """The scheduled kernel: parameters query, key, value, the mask if there is one, and result, all of rank 4."""
    return _Kernel(case, registers).built()


class _Kernel:
    def __init__(self, case: Attention, registers: Registers) -> None:
        self._case = case
        self._batch, self._heads, self._queries, self._width = case.batch, case.heads, case.queries, case.width
        self._keys, self._value_width = case.keys, case.value_width
        most = _QUERY_VECTORS * registers.lanes
        self._query_blocks = math.ceil(self._queries / most)
        self._lanes = math.ceil(self._queries / self._query_blocks)
        vectors = vectors_of(self._lanes, registers.lanes)
        per_block = math.ceil(self._keys / math.ceil(self._keys / _KEYS))
        self._scores = Tile(best_tile(per_block, self._lanes, registers, len(vectors)).rows, vectors)
        self._values = Tile(best_tile(self._value_width, self._lanes, registers, len(vectors)).rows, vectors)
        self._block = math.ceil(per_block / self._scores.rows) * self._scores.rows
        self._value_rows = math.ceil(self._value_width / self._values.rows) * self._values.rows

    def built(self) -> Any:
        case = self._case
        with IRBuilder() as builder, build.prim_func(is_private=True, s_tir=True):
            build.func_name("attention")
            build.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
            lead = (self._batch, self._heads)
            self._q = build.arg("query", build.buffer((*lead, self._queries, self._width), case.dtype))
            self._k = build.arg("key", build.buffer((*lead, self._keys, self._width), case.dtype))
            self._v = build.arg("value", build.buffer((*lead, self._keys, self._value_width), case.dtype))
            self._m = None
            if case.mask_shape is not None:
                self._m = build.arg("mask", build.buffer(case.mask_shape, case.mask_dtype))
            self._o = build.arg("result", build.buffer((*lead, self._queries, self._value_width), case.dtype))
            with build.sblock("root"):
                build.reads([])
                build.writes([])
                self._emit()
        return builder.get()

    def _emit(self) -> None:
        extents = (self._batch, self._heads, self._query_blocks)
        blocks = math.prod(extents)
        work = blocks * self._lanes * self._keys * (self._width + self._value_width)
        count = min(blocks, 8 * cores(work)) if cores(work) > 1 else 1
        per_task = math.ceil(blocks / count)
        with tasks(count, work) as task, build.sblock("task"):
            build.reads([])
            build.writes([])
            self._scratch()
            with loops([per_task]) as (i,):
                block = task * per_task + i
                with build.If(block < blocks), build.Then():
                    batch, head, part = unravel(block, extents)
                    self._query_block([batch, head], part * self._lanes)

    def _scratch(self) -> None:
        def lines(count: int) -> Any:
            return build.sblock_alloc_buffer((count, self._lanes), "float32")

        self._query = lines(self._width)
        self._score = lines(self._block)
        self._result = lines(self._value_rows)
        self._largest, self._total, self._correction, self._before = (lines(1) for _ in range(4))

    def _query_block(self, head: Sequence[Expr], first: Expr) -> None:
        """All keys for one block of queries."""
        with loops([self._lanes, self._width]) as (lane, d):
            number = wide(self._q[(*head, self._at_most(first + lane, self._queries), d)])
            build.buffer_store(self._query, number * T.float32(self._case.scale), [d, lane])
        self._each(self._value_rows, self._clear)
        self._set(self._largest, lambda at, lanes: spread(T.float32(_LEAST), lanes))
        self._set(self._total, lambda at, lanes: spread(T.float32(0), lanes))
        with loops([math.ceil(self._keys / self._block)]) as (b,):
            key = b * self._block
            if self._case.causal:
                with build.If(key < first + self._lanes), build.Then():
                    self._key_block(head, first, key)
            else:
                self._key_block(head, first, key)
        with loops([self._lanes, self._value_width]) as (lane, d), build.If(first + lane < self._queries), build.Then():
            total = self._total[0, lane]
            made = T.Select(total == T.float32(0), T.float32(0), self._result[d, lane] / total)
            value = made if self._case.dtype == "float32" else T.Cast(self._case.dtype, made)
            build.buffer_store(self._o, value, [*head, first + lane, d])

    def _key_block(self, head: Sequence[Expr], first: Expr, key: Expr) -> None:
        """Scores of a block of keys, their exponentials, and what values they weigh."""
        self._multiply_keys(head, key)
        self._adjust_scores(head, first, key)
        self._set(self._before, lambda at, lanes: self._largest[0, ramp(at, lanes)])

        def compare(j: Expr, at: int, lanes: int) -> None:
            larger = tirx.max(_at(self._largest, 0, at, lanes), _at(self._score, j, at, lanes))
            _store(self._largest, larger, 0, at, lanes)

        self._each(self._block, compare)
        self._set(
            self._correction,
            lambda at, lanes: tirx.exp(_at(self._before, 0, at, lanes) - _at(self._largest, 0, at, lanes)),
        )
        self._set(self._total, lambda at, lanes: _at(self._total, 0, at, lanes) * _at(self._correction, 0, at, lanes))

        def weigh(j: Expr, at: int, lanes: int) -> None:
            weight = tirx.exp(_at(self._score, j, at, lanes) - _at(self._largest, 0, at, lanes))
            _store(self._score, weight, j, at, lanes)
            _store(self._total, _at(self._total, 0, at, lanes) + _at(self._score, j, at, lanes), 0, at, lanes)

        self._each(self._block, weigh)
        self._multiply_values(head, key)

    def _multiply_keys(self, head: Sequence[Expr], key: Expr) -> None:
        with loops([self._block // self._scores.rows]) as (t,):
            start = t * self._scores.rows

            def left(row: Expr, d: Expr) -> Expr:
                return wide(self._k[(*head, self._at_most(key + start + row, self._keys), d)])

            def right(at: int, lanes: int, d: Expr) -> Expr:
                return _at(self._query, d, at, lanes)

            def store(row: Expr, at: int, lanes: int, vector: Expr) -> None:
                _store(self._score, vector, start + row, at, lanes)

            multiply(self._scores, [self._width], [], left, right, store)

    def _adjust_scores(self, head: Sequence[Expr], first: Expr, key: Expr) -> None:
        """Add the mask; keys that a query does not see, or that do not exist, get -inf."""
        ragged = self._keys % self._block != 0
        if self._m is None and not self._case.causal and not ragged:
            return

        def adjust(j: Expr, at: int, lanes: int) -> None:
            with build.vectorized(T.int64(0), T.int64(lanes)) as lane:
                score = self._score[j, at + lane]
                query = first + at + lane
                if self._m is not None:
                    place = (*head, self._at_most(query, self._queries), self._at_most(key + j, self._keys))
                    shape = [int(extent) for extent in self._m.shape]
                    held = [index(0) if extent == 1 else where for extent, where in zip(shape, place, strict=True)]
                    score = score + wide(self._m[*held])
                seen = [key + j < self._keys] if ragged else []
                seen += [key + j <= query] if self._case.causal else []
                for condition in seen:
                    score = T.Select(condition, score, T.float32("-inf"))
                build.buffer_store(self._score, score, [j, at + lane])

        self._each(self._block, adjust)

    def _multiply_values(self, head: Sequence[Expr], key: Expr) -> None:
        with loops([self._value_rows // self._values.rows]) as (t,):
            start = t * self._values.rows

            def left(row: Expr, j: Expr) -> Expr:
                at = self._at_most(start + row, self._value_width)
                return wide(self._v[(*head, self._at_most(key + j, self._keys), at)])

            def right(at: int, lanes: int, j: Expr) -> Expr:
                return _at(self._score, j, at, lanes)

            def store(row: Expr, at: int, lanes: int, vector: Expr) -> None:
                held = _at(self._result, start + row, at, lanes) * _at(self._correction, 0, at, lanes)
                _store(self._result, held + vector, start + row, at, lanes)

            multiply(self._values, [self._block], [], left, right, store)

    def _at_most(self, position: Expr, extent: int) -> Expr:
        """A position, or the last one where blocks reach beyond it; the simplifier drops what cannot happen."""
        return T.min(position, index(extent - 1))

    def _clear(self, d: Expr, at: int, lanes: int) -> None:
        _store(self._result, spread(T.float32(0), lanes), d, at, lanes)

    def _each(self, count: int, vector: Callable[[Expr, int, int], None]) -> None:
        with loops([count]) as (line,):
            for _, at, lanes in self._scores.starts():
                vector(line, at, lanes)

    def _set(self, buffer: Any, vector: Callable[[int, int], Expr]) -> None:
        for _, at, lanes in self._scores.starts():
            _store(buffer, vector(at, lanes), 0, at, lanes)


def _at(buffer: Any, line: Expr, at: int, lanes: int) -> Expr:
    return buffer[index(line), ramp(at, lanes)]


def _store(buffer: Any, vector: Expr, line: Expr, at: int, lanes: int) -> None:
    build.buffer_store(buffer, vector, [index(line), ramp(at, lanes)])

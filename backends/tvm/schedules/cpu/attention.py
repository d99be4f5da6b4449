"""Attention on a CPU: which kernel it gets."""

from __future__ import annotations

from functools import cache
from typing import Any

from penstock.backends.tvm.schedules.attention import Attention
from penstock.backends.tvm.schedules.cpu.query_blocks import query_blocks
from penstock.backends.tvm.schedules.cpu.single_queries import single_queries
from penstock.backends.tvm.schedules.cpu.tile import Registers

_LEAST_QUERIES = 4
"""Queries from which on they go side by side, one in each lane; fewer leave most lanes idle."""


def cpu_attention(case: Attention) -> Any:
    """The scheduled kernel: parameters query, key, value, the mask if there is one, and result, all of rank 4."""
    registers = Registers.current()
    if registers is None or case.queries < _LEAST_QUERIES:
        return single_queries(case)
    return _query_blocks(case, registers)


_query_blocks = cache(query_blocks)

"""Which schedule a kernel gets: the rules of a target in order, the first that takes a kernel wins.

Kernels that bring their own schedule (attention, scans) are marked and left alone.
"""

from __future__ import annotations

import logging
from typing import Any

import tvm
from tvm.s_tir import dlight

from penstock.backends.tvm.kernels import thread_extents
from penstock.backends.tvm.schedules import cpu
from penstock.backends.tvm.schedules.gpu.elementwise import Elementwise
from penstock.backends.tvm.schedules.gpu.matmul import Matmul
from penstock.backends.tvm.schedules.gpu.one_row import OneRow
from penstock.backends.tvm.schedules.gpu.reduction import ReductionsOfLines
from penstock.backends.tvm.schedules.gpu.register_tiles import RegisterTiles
from penstock.backends.tvm.schedules.gpu.row_per_group import RowPerGroup
from penstock.backends.tvm.schedules.gpu.row_per_thread import RowPerThread
from penstock.backends.tvm.schedules.gpu.simdgroup import SimdgroupTiles
from penstock.backends.tvm.schedules.gpu.transpose import Transpose

_log = logging.getLogger(__name__)


def rules_for(target: tvm.target.Target) -> Any:
    """The pass that schedules every kernel that has no schedule yet."""
    if "gpu" in target.keys:
        rules = [
            OneRow(),
            SimdgroupTiles(),
            RegisterTiles(),
            Transpose(),
            Elementwise(),
            RowPerThread(),
            RowPerGroup(),
            Matmul(),
            dlight.gpu.GEMV(),
            dlight.gpu.Reduction(),
            ReductionsOfLines(),
        ]
        return dlight.ApplyDefaultSchedule(*map(_Guarded, rules), dlight.gpu.Fallback())
    rules = [cpu.Convolution(), cpu.Matmul(), cpu.Lines(), cpu.Elementwise(), cpu.Parallel()]
    return dlight.ApplyDefaultSchedule(*map(_Guarded, rules))


class _Guarded(dlight.base.ScheduleRule):  # type: ignore[misc]
    """A rule that passes on what it cannot take.

    TVM's rules assert what they expect of a kernel; one that was not written for the kernel at hand must not end the
    compilation, since the last rule takes everything.
    """

    def __init__(self, rule: Any) -> None:
        super().__init__()
        self.rule = rule

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        try:
            schedule = self.rule.apply(func, target, tunable)
        except Exception as error:
            _log.debug("%s passes on a kernel: %s: %s", type(self.rule).__name__, type(error).__name__, error)
            return None
        return schedule if schedule is not None and _fits(schedule, target) else None


def _fits(schedules: Any, target: Any) -> bool:
    """Whether no work-group has more threads than the target allows."""
    limit = int(target.attrs.get("max_threads_per_block", 0)) if "gpu" in target.keys else 0
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        if limit and _threads(schedule.mod["main"]) > limit:
            return False
    return True


def _threads(function: Any) -> int:
    """The most threads of any work-group of a scheduled function."""
    extents = thread_extents(function.body)
    threads = 1
    for axis in "xyz":
        threads *= extents.get(f"threadIdx.{axis}", 1)
    return threads

"""Which schedule a kernel gets: the rules in order, the first that takes a kernel wins.

Kernels that bring their own schedule (attention, scans) are marked and left alone.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.s_tir.dlight.analysis import normalize_prim_func

from penstock.backends.tvm.kernels import thread_extents

_log = logging.getLogger(__name__)


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


class _Matmul(dlight.gpu.Matmul):  # type: ignore[misc]
    """Tiles for matmuls and convolutions, the plain ones on Metal too.

    TVM's rule for Metal's matrix units keeps half-precision sums, and takes no kernel that accumulates in float32.
    """

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name == "metal":
            limits = {key: int(target.attrs[key]) for key in ("max_threads_per_block", "max_shared_memory_per_block")}
            target = tvm.target.Target({"kind": "vulkan", **limits}, host=target.host)
        return super().apply(func, target, tunable)


class _ReductionsOfLines(dlight.gpu.GeneralReduction):  # type: ignore[misc]
    """A work-group per result, for sums over long lines.

    Convolutions are left to a thread per result: their sums are short and their results many.
    """

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        infos = normalize_prim_func(s_tir.Schedule(func))
        for info in infos or ():
            spatial = sum(1 for axis in info.iters if axis.kind == "S")
            reduced = sum(1 for axis in info.iters if axis.kind == "R")
            if spatial and reduced > 1:
                return None
        return super().apply(func, target, tunable)


class _Parallel(dlight.base.ScheduleRule):  # type: ignore[misc]
    """For a CPU: steps are computed where they are used, outer loops run on all cores, elementwise ones vectorised."""

    _LANES = 16

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        if target.kind.name != "llvm":
            return None
        schedule = s_tir.Schedule(func)
        root = schedule.get_sblock("root")
        for block in schedule.get_child_blocks(root):
            if self._is_step(schedule, block):
                schedule.compute_inline(block)
        for block in schedule.get_child_blocks(root):
            self._block(schedule, block)
        return schedule

    def _is_step(self, schedule: Any, block: Any) -> bool:
        """Whether a block only feeds others, element by element, none of which reads an element over and over."""
        readers = schedule.get_consumers(block)
        if not readers or not _is_elementwise(schedule, block):
            return False
        made = _iterations(schedule, block)
        if _moves_only(schedule, block):
            return True
        return all(_is_elementwise(schedule, reader) or _iterations(schedule, reader) <= made for reader in readers)

    def _block(self, schedule: Any, block: Any) -> None:
        kinds = [str(axis.iter_type) for axis in schedule.get(block).iter_vars]
        loops = schedule.get_loops(block)
        if len(kinds) != len(loops):
            return
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "0"]
        leading = spatial if loops[: len(spatial)] == spatial else []
        if not leading:
            return
        fused = schedule.fuse(*leading) if len(leading) > 1 else leading[0]
        extent = int(schedule.get(fused).extent)
        if len(spatial) == len(loops) and extent % self._LANES == 0 and extent > self._LANES:
            fused, lanes = schedule.split(fused, [None, self._LANES])
            schedule.vectorize(lanes)
        schedule.parallel(fused)


def _is_elementwise(schedule: Any, block: Any) -> bool:
    """Whether every iteration writes one element, at the place that its axes name, and nothing else."""
    held = schedule.get(block)
    if any(str(axis.iter_type) != "0" for axis in held.iter_vars) or not isinstance(held.body, tirx.BufferStore):
        return False
    axes = {axis.var for axis in held.iter_vars}
    return all(index in axes or isinstance(index, tvm.tirx.IntImm) for index in held.body.indices)


def _moves_only(schedule: Any, block: Any) -> bool:
    """Whether a block only moves elements, or pads: no more than a load, and a number where there is none."""
    value = schedule.get(block).body.value
    if isinstance(value, tvm.ir.Call) and str(value.op.name).endswith("if_then_else") and len(value.args) == 3:
        value = value.args[1]
    return isinstance(value, tvm.ir.TensorLoad)


def _iterations(schedule: Any, block: Any) -> int:
    return math.prod(int(axis.dom.extent) for axis in schedule.get(block).iter_vars)


def rules_for(target: tvm.target.Target) -> Any:
    """The pass that schedules every kernel that has no schedule yet."""
    if "gpu" in target.keys:
        rules = [_Matmul(), dlight.gpu.GEMV(), dlight.gpu.Reduction(), _ReductionsOfLines()]
        return dlight.ApplyDefaultSchedule(*map(_Guarded, rules), dlight.gpu.Fallback())
    return dlight.ApplyDefaultSchedule(_Guarded(_Parallel()))


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

"""Any kernel on a CPU: outer loops on all cores, elementwise ones in vectors."""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import dlight


class Parallel(dlight.base.ScheduleRule):  # type: ignore[misc]
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

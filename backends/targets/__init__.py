"""Devices as data: what penstock can compile for, with the limits that passes and kernels must keep.

One TOML file per family. A file holds ``[defaults]`` and one ``[[target]]`` per device; a device inherits every default
it does not set. Figures that a vendor does not publish are conservative, and the entry says so in ``notes``.
"""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from penstock.passes.core.errors import UsageError

Kind = Literal["llvm", "opencl", "metal", "cuda"]
_STRICT = ConfigDict(extra="forbid")
_FAMILIES = ("cpu", "opencl", "cuda", "nvidia", "apple", "adreno", "mali")


@dataclass(frozen=True, config=_STRICT)
class Limits:
    """What a kernel and an allocation may not exceed.

    Attributes:
        max_threads: threads in one work-group (OpenCL) or threadgroup (Metal).
        local_memory_bytes: memory that one work-group shares.
        subgroup: threads that run in lock step; 1 for a CPU.
        fp16: whether the device computes in half precision.
        max_allocation_bytes: the largest single buffer, None where no figure is published.
        alignment: of every buffer, in bytes.
        part_alignment: of every part of a buffer that a kernel sees, in bytes, at least that of its elements.
        memory_bytes: memory of a typical device that holds this chip, shared with everything else that runs; None for
            a family.
    """

    max_threads: int
    local_memory_bytes: int
    subgroup: int
    fp16: bool
    max_allocation_bytes: int | None = None
    alignment: int = 128
    part_alignment: int = 128
    memory_bytes: int | None = None


@dataclass(frozen=True, config=_STRICT)
class Compute:
    """What a GPU does well, from which schedules take their tiles and reports their limits.

    Attributes:
        compute_units: parts that run work-groups independently: cores (Apple), shader cores (Arm), shader processors
            (Qualcomm), multiprocessors (NVIDIA).
        vector_bytes: what a thread loads at once at full speed.
        sums: float32 sums that a thread keeps in registers without losing much occupancy.
        threads: of a work-group, that a schedule aims for.
        local_memory: whether local memory is on the chip, and so worth copying to.
        barriers: whether threads of a work-group wait for each other at little cost; a CPU's do not.
        matrix_units: whether kernels can use simdgroup matrices.
        gflops_float32: peak, in 10⁹ operations per second, a fused multiply-add counted as two; None where unknown.
        gflops_float16: likewise.
        gbytes_per_second: peak of the memory.
    """

    compute_units: int = 1
    vector_bytes: int = 16
    sums: int = 32
    threads: int = 64
    local_memory: bool = False
    barriers: bool = True
    matrix_units: bool = False
    gflops_float32: float | None = None
    gflops_float16: float | None = None
    gbytes_per_second: float | None = None

    def least_seconds(self, flops: int, moved_bytes: int, dtype: str = "float32") -> float | None:
        """No kernel that does so much work on this device ends sooner (a roofline); None where a peak is unknown.

        Args:
            dtype: in which the operations are done.
        """
        peak = self.gflops_float16 if dtype == "float16" else self.gflops_float32
        if peak is None or self.gbytes_per_second is None:
            return None
        return max(flops / peak, moved_bytes / self.gbytes_per_second) / 1e9


@dataclass(frozen=True, config=_STRICT)
class Target:
    """A device or a family of devices.

    Attributes:
        kind: the language of its kernels.
        compute: what it does well; of a GPU.
        host: LLVM triple of the code that launches them; '' for the machine at hand.
        notes: what to know of the figures.
        sources: where the figures come from.
    """

    name: str
    description: str
    kind: Kind
    vendor: str
    family: str
    limits: Limits
    compute: Compute = Compute()
    host: str = ""
    aliases: tuple[str, ...] = ()
    notes: str = ""
    sources: tuple[str, ...] = ()

    @property
    def runs_here(self) -> bool:
        """Whether its artifacts are compiled for the machine at hand and no other."""
        return self.kind == "llvm" and not self.host

    @property
    def on_gpu(self) -> bool:
        """Whether its kernels are GPU kernels."""
        return self.kind != "llvm"


@cache
def all_targets() -> dict[str, Target]:
    """Every target by name, family by family."""
    return {target.name: target for family in _FAMILIES for target in _read(family)}


def find_target(name: str) -> Target:
    """The target of that name or alias, or a `UsageError` that offers the nearest names."""
    targets = all_targets()
    by_name = {alias: target for target in targets.values() for alias in target.aliases} | targets
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`penstock targets list` shows all."
        raise UsageError(f"unknown target '{name}'; {hint}")
    return by_name[name]


def _read(family: str) -> list[Target]:
    text = resources.files(__package__).joinpath(f"{family}.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    defaults = data["defaults"]
    return [Target(**_merged(defaults, entry)) for entry in data["target"]]


def _merged(defaults: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    limits = {**defaults.get("limits", {}), **entry.get("limits", {})}
    compute = {**defaults.get("compute", {}), **entry.get("compute", {})}
    return {**defaults, **entry, "limits": Limits(**limits), "compute": Compute(**compute)}

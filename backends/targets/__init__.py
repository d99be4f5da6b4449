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
_FAMILIES = ("cpu", "opencl", "cuda", "apple", "adreno", "mali")


@dataclass(frozen=True, config=_STRICT)
class Limits:
    """What a kernel and an allocation may not exceed.

    Attributes:
        max_threads: threads in one work-group (OpenCL) or threadgroup (Metal).
        local_memory_bytes: memory that one work-group shares.
        subgroup: threads that run in lock step; 1 for a CPU.
        fp16: whether the device computes in half precision.
        max_allocation_bytes: the largest single buffer, None where no figure is published.
        alignment: of every buffer that a kernel sees, in bytes.
        memory_bytes: memory of a typical device that holds this chip, shared with everything else that runs; None for
            a family.
    """

    max_threads: int
    local_memory_bytes: int
    subgroup: int
    fp16: bool
    max_allocation_bytes: int | None = None
    alignment: int = 128
    memory_bytes: int | None = None


@dataclass(frozen=True, config=_STRICT)
class Target:
    """A device or a family of devices.

    Attributes:
        kind: the language of its kernels.
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
    return {**defaults, **entry, "limits": Limits(**limits)}

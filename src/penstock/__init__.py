"""penstock: get large generative models through the narrow memory of a phone.

::

    program = penstock.capture(module, args)
    program = penstock.optimize(program, target="adreno-830", memory_budget="1.5GiB")
    penstock.compile(program, target="llvm", output="net.penstock")
    outputs = penstock.load("net.penstock")(*args)

The names load on first use, so that importing the package is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.api import (
        Artifact,
        Difference,
        LoadedModel,
        PenstockError,
        Program,
        capture,
        compile,
        load,
        memory,
        optimize,
        reference,
        resize,
        tune,
        verify,
    )

__all__ = [
    "Artifact",
    "Difference",
    "LoadedModel",
    "PenstockError",
    "Program",
    "capture",
    "compile",
    "load",
    "memory",
    "optimize",
    "reference",
    "resize",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'penstock' has no attribute '{name}'")
    return getattr(importlib.import_module("penstock.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

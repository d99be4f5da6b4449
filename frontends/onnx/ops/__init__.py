"""The operators, one file per family."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every family, which fills the table in `registry`."""
    for family in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(family.name)

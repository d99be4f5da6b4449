"""Finding passes by name: the ones in this package, and those that other packages announce.

A package announces its passes by an entry point in the group ``penstock.passes`` that names a module (importing it
registers its passes) or a pass class::

    [project.entry-points."penstock.passes"]
    my-package = "my_package.passes"
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import logging
import pkgutil
from functools import cache

from penstock.passes.core.base import Pass, registered
from penstock.passes.core.errors import UsageError

ENTRY_POINT_GROUP = "penstock.passes"
_log = logging.getLogger(__name__)


@cache
def _discover() -> None:
    package = importlib.import_module("penstock.passes")
    for module in pkgutil.walk_packages(package.__path__, "penstock.passes."):
        if ".core" not in module.name and ".analysis" not in module.name:
            importlib.import_module(module.name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            entry.load()
        except Exception as error:
            _log.warning("the passes of '%s' (%s) do not load: %s", entry.name, entry.value, error)


def all_passes() -> dict[str, type[Pass]]:
    """Every known pass by name, sorted."""
    _discover()
    return registered()


def find_pass(name: str) -> type[Pass]:
    """The pass of that name, or a `UsageError` that offers the nearest names."""
    passes = all_passes()
    if name not in passes:
        near = difflib.get_close_matches(name, passes, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`penstock passes list` shows all."
        raise UsageError(f"unknown pass '{name}'; {hint}")
    return passes[name]

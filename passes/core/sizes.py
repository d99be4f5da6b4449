"""Sizes as people write them: ``1.5GiB``, ``630 MiB``, ``2GB``, ``4096``."""

from __future__ import annotations

import re

from penstock.passes.core.errors import UsageError

_UNITS = {
    "": 1, "b": 1,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip


def parse_size(text: str | int) -> int:
    """Bytes of a size; `UsageError` for anything that is not a positive size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
    size = round(float(found[1]) * _UNITS.get(found[2].lower(), 0)) if found else 0
    if size < 1:
        raise UsageError(f"'{text}' is not a size; write it like 1.5GiB, 630MiB, 2GB or a number of bytes")
    return size


def format_size(size: int) -> str:
    """``1653.8 MiB``: the largest binary unit that leaves at least 1, with one decimal (two from GiB)."""
    for unit, digits in (("GiB", 2), ("MiB", 1), ("KiB", 1)):
        factor = _UNITS[unit.lower()]
        if size >= factor:
            return f"{size / factor:.{digits}f} {unit}"
    return f"{size} B"

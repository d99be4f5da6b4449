"""The back ends: every way a Program becomes something that runs on a device."""

from __future__ import annotations

if not __name__.startswith("penstock."):
    raise ImportError(
        "this folder is the package penstock.backends; import it as penstock.backends "
        "(as a top-level 'backends' it would register everything a second time)"
    )

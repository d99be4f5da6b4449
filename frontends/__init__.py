"""The front ends: every way a model becomes a Program. All of them end in `torch_export`."""

from __future__ import annotations

if not __name__.startswith("penstock."):
    raise ImportError(
        "this folder is the package penstock.frontends; import it as penstock.frontends "
        "(as a top-level 'frontends' it would register everything a second time)"
    )

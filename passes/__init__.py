"""The passes: everything that rewrites a Program. One file per pass; `presets` is the table of contents."""

from __future__ import annotations

if not __name__.startswith("penstock."):
    raise ImportError(
        "this folder is the package penstock.passes; import it as penstock.passes "
        "(as a top-level 'passes' it would register everything a second time)"
    )

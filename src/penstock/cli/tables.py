"""The one look of all tables that commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> Table:
    """A plain table. Columns whose heading begins with ``>`` hold figures and are set to the right."""
    result = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=any(heading.strip(">") for heading in headings),
        title=title,
        title_justify="left",
        title_style="bold",
    )
    for heading in headings:
        result.add_column(
            heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left", overflow="fold"
        )
    for row in rows:
        result.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return result

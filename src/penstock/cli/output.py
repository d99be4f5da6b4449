"""Where commands write: results to stdout as text or JSON, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from penstock.passes.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1
PIPE_WIDTH = 1000
"""Columns for what does not go to a terminal: wide enough that nothing a script greps for is wrapped."""

Draw = Callable[["Console"], None]
Report = Callable[[str, int, int], None]


@dataclass
class Output:
    """The output settings of one run, set by the global options.

    Attributes:
        format: how results are written to stdout.
        verbosity: 1 and 2 log more to stderr, -1 keeps stderr silent except for errors.
    """

    format: Literal["text", "json"] = "text"
    verbosity: int = 0

    def result(self, data: Mapping[str, Any], draw: Draw) -> None:
        """Write a command's result to stdout: `data` as one JSON document, or what `draw` prints."""
        if self.format == "json":
            print_json(data)
        else:
            draw(console(sys.stdout))

    def note(self, text: str) -> None:
        """Tell the user something on stderr, unless ``--quiet``."""
        if self.verbosity >= 0:
            console(sys.stderr).print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Report]:
        """Show progress on stderr while the block runs, if stderr is a terminal.

        Yields a function to call with what is being done now, how much is done, and of how much.
        """
        if self.verbosity < 0 or not sys.stderr.isatty():
            yield lambda text, done, total: None
            return
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
        with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
            task = bar.add_task(title, total=None)

            def report(text: str, done: int, total: int) -> None:
                bar.update(task, description=f"{title}: {text}", completed=done, total=total)

            yield report

    def start_logging(self) -> None:
        """Send log records to stderr: warnings as a rule, more with ``-v``, errors alone with ``-q``."""
        level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(self.verbosity, logging.DEBUG)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger = logging.getLogger("penstock")
        logger.handlers = [handler]
        logger.setLevel(level)


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON document on stdout. Keys say their units; a figure that is not finite is null."""
    document = _finite({"schema_version": SCHEMA_VERSION, **data})
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def console(stream: Any) -> Console:
    """A rich console: coloured and as wide as the window on a terminal, plain and wide elsewhere."""
    from rich.console import Console

    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


def write_text(path: Path, text: str) -> None:
    """Write a file that the user named.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error

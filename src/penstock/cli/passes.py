"""`penstock passes`: what passes there are, what one does, and a new one to start from."""

from __future__ import annotations

import dataclasses
import inspect
import keyword
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.options import PassName, global_options
from penstock.cli.output import Output
from penstock.passes.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.passes.core.base import Pass

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")
_TEMPLATES = Path(__file__).parent / "templates"


@click.group()
@global_options
def passes() -> None:
    """List and describe passes, or start a new one."""


@passes.command("list")
@global_options
@click.pass_obj
def list_passes(output: Output) -> None:
    """List every pass, this package's and those of other installed packages."""
    from penstock.passes.core.registry import all_passes

    rows = [
        {"name": name, "exactness": kind.exactness, "summary": kind.summary(), "module": kind.__module__}
        for name, kind in all_passes().items()
    ]

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        console.print(table(["pass", "exactness", "what it does", "module"], [tuple(row.values()) for row in rows]))

    output.result({"passes": rows}, draw)


@passes.command("show")
@click.argument("name", type=PassName())
@global_options
@click.pass_obj
def show_pass(output: Output, name: str) -> None:
    """Show one pass's documentation and options."""
    from penstock.passes.core.registry import find_pass

    kind = find_pass(name)
    options = options_of(kind)
    documentation = inspect.getdoc(kind) or ""

    def draw(console: Console) -> None:
        from penstock.cli.tables import table

        console.print(f"{kind.name()}  ({kind.exactness}, {kind.__module__})\n", markup=False)
        console.print(documentation, markup=False, soft_wrap=True)
        if options:
            console.print(f"\nSet with --pass {kind.name()}:option=value,…", markup=False)
            console.print(table(["option", "type", "default"], [tuple(option.values()) for option in options]))

    data = {"name": kind.name(), "exactness": kind.exactness, "module": kind.__module__}
    output.result({**data, "documentation": documentation, "options": options}, draw)


def options_of(kind: type[Pass]) -> list[dict[str, str]]:
    """The options of a pass with their types and defaults, as text."""
    rows = []
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            default = str(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = str(field.default_factory())
        else:
            default = "required"
        rows.append({"option": field.name, "type": str(field.type), "default": default})
    return rows


@passes.command("new")
@click.argument("name")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to write.  [default: the current folder]",
)
@global_options
@click.pass_obj
def new_pass(output: Output, name: str, directory: Path) -> None:
    """Write a small working pass and its test, as a start for your own."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    module = _module_name(name)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    values = {"name": name, "module": module, "class_name": _class_name(name)}
    files = {
        directory / f"{module}.py": environment.get_template("pass.py.j2").render(values),
        directory / f"test_{module}.py": environment.get_template("test_pass.py.j2").render(values),
    }
    existing = [str(path) for path in files if path.exists()]
    if existing:
        verb = "exists" if len(existing) == 1 else "exist"
        raise UsageError(
            f"{' and '.join(existing)} already {verb}; nothing was written. Choose another name or folder."
        )
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")

    def draw(console: Console) -> None:
        for path in files:
            console.print(f"wrote {path}", markup=False)
        console.print(f"try   python -m pytest {directory / f'test_{module}.py'}", markup=False)

    output.result({"files": [str(path) for path in files]}, draw)


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _module_name(name: str) -> str:
    """The file's name without ``.py``; refuses names that Python or penstock would not give back."""
    from penstock.passes.core.registry import all_passes

    module = name.replace("-", "_")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' is not a pass name; expected lower-case words that begin with a letter, joined by hyphens, "
            f"such as drop-unit-scale"
        )
    if re.search(r"-[a-z](-|$)", f"-{name}"):
        raise UsageError(f"'{name}' has a word of one letter, which the class name could not keep apart; spell it out")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UsageError(f"'{module}' is a name of Python itself; choose another")
    if name in all_passes():
        raise UsageError(f"there is a pass called '{name}' already, in {all_passes()[name].__module__}")
    return module

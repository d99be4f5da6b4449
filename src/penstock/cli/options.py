"""Options and parameter types that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from penstock.cli.output import Output

Function = TypeVar("Function", bound=Callable[..., Any])


def global_options(function: Function) -> Function:
    """The options that every command takes, before or after the command's name."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, **_sets(_quiet), help="Keep stderr silent except for errors."),
        click.option("-v", "--verbose", count=True, **_sets(_verbose), help="Log to stderr; twice for more."),
        click.option(
            "--format",
            type=click.Choice(["text", "json"]),
            **_sets(_format),
            help="How results are written to stdout.  [default: text]",
        ),
    ):
        function = option(function)
    return function


def _sets(callback: Callable[[Output, Any], None]) -> dict[str, Any]:
    """Keywords of an option that changes the run's `Output` and is not passed to the command."""

    def apply(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            output = context.ensure_object(Output)
            callback(output, value)
            output.start_logging()

    return {"callback": apply, "expose_value": False, "is_eager": True}


def _quiet(output: Output, value: bool) -> None:
    output.verbosity = -1


def _verbose(output: Output, value: int) -> None:
    output.verbosity = value


def _format(output: Output, value: Any) -> None:
    output.format = value


class TargetName(click.ParamType[str]):
    """The name of a device; the shell completes it."""

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The targets that begin with what is typed."""
        from penstock.backends.targets import all_targets

        return [CompletionItem(name) for name in all_targets() if name.startswith(incomplete)]


class PassName(click.ParamType[str]):
    """The name of a pass, with options after a colon; the shell completes it."""

    name = "pass"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The passes that begin with what is typed."""
        from penstock.passes.core.registry import all_passes

        return [
            CompletionItem(name, help=kind.summary())
            for name, kind in all_passes().items()
            if name.startswith(incomplete)
        ]

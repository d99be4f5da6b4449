"""The entry point: the command group, its global options, and the one place that turns errors into exit codes.

====  ==========================================
code  meaning
====  ==========================================
0     done
1     internal error
2     wrong usage or bad input
3     an operator is not supported
4     verification failed
5     the memory budget cannot be met
6     a tool that is needed is missing
130   stopped with Ctrl-C
====  ==========================================

With ``--format json`` stdout holds exactly one JSON document, an error as ``{"error": {"type", "message", …}}``.
"""

from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from penstock.cli.bench import bench
from penstock.cli.compile import compile_model
from penstock.cli.completion import completion
from penstock.cli.doctor import doctor
from penstock.cli.inspect import inspect_model
from penstock.cli.options import global_options
from penstock.cli.output import Output, print_json
from penstock.cli.passes import passes
from penstock.cli.run import run
from penstock.cli.slice import slice_model
from penstock.cli.targets import targets
from penstock.cli.tune import tune_model
from penstock.cli.verify import verify
from penstock.passes.core.errors import PenstockError, UnsupportedOperatorError

USAGE = 2
INTERRUPTED = 130


class CommandLine(click.Group):
    """The group; it runs a command and exits with the code that belongs to what happened."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Parse, run and exit."""
        arguments = list(sys.argv[1:] if args is None else args)
        output = Output(format="json" if _asks_for_json(arguments) else "text")
        output.start_logging()
        try:
            extra["standalone_mode"] = False
            code = super().main(arguments, prog_name, obj=output, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader (`head`, a pager) has gone; keep Python from complaining when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except BaseException as error:
            code = _report(error, output)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done · 1 internal error · 2 usage or bad input · 3 unsupported operator · "
    "4 verification failed · 5 budget infeasible · 6 missing tool.",
)
@click.version_option(package_name="penstock", message="%(prog)s %(version)s")
@global_options
def cli() -> None:
    """Get large generative models through the narrow memory of a phone.

    MODEL is a .pt2 file, an .onnx file, package.module:factory or path/file.py:factory; a factory returns a torch
    module and its example inputs. OUT is an artifact that `penstock compile` wrote.
    """


COMMANDS = (
    compile_model,
    inspect_model,
    slice_model,
    tune_model,
    run,
    verify,
    bench,
    passes,
    targets,
    doctor,
    completion,
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line with the process's arguments."""
    cli.main(prog_name="penstock")


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON, known even when they do not parse."""
    return "--format=json" in arguments or ("--format", "json") in itertools.pairwise(arguments)


def _report(error: BaseException, output: Output) -> int:
    """Tell the user what went wrong and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return _tell("Interrupted", "interrupted", INTERRUPTED, output)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    if isinstance(error, click.ClickException):
        return _tell(type(error).__name__, _usage(error, output), USAGE, output)
    if isinstance(error, PenstockError):
        if output.verbosity > 0:
            traceback.print_exception(error)
        return _tell(type(error).__name__, str(error), error.exit_code, output, _operators(error))
    if output.verbosity > 0:
        traceback.print_exception(error)
        advice = ""
    else:
        advice = ", run with -v for the traceback"
    first = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
    return _tell(type(error).__name__, f"internal error: {type(error).__name__}: {first}{advice}", 1, output)


def _tell(kind: str, message: str, code: int, output: Output, details: Any = None) -> int:
    if output.format == "json":
        print_json({"error": {"type": kind, "message": message, "exit_code": code, **(details or {})}})
    else:
        sys.stderr.write(f"penstock: {message}\n")
    return code


def _usage(error: click.ClickException, output: Output) -> str:
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None or output.format == "json":
        return message
    return f"{message}\n{context.get_usage()}\nTry '{context.command_path} --help'."


def _operators(error: PenstockError) -> dict[str, Any]:
    if not isinstance(error, UnsupportedOperatorError):
        return {}
    return {
        "unsupported": [
            {"operator": item.operator, "nodes": item.nodes, "sources": item.sources, "advice": item.advice}
            for item in error.unsupported
        ]
    }

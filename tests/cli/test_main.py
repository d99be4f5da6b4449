from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

import penstock.backends.targets as targets_module
from penstock.cli.main import cli
from penstock.passes.core.errors import (
    BudgetError,
    CaptureError,
    InvalidProgramError,
    MissingToolError,
    PenstockError,
    Unsupported,
    UnsupportedOperatorError,
    UsageError,
    VerificationError,
)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, invoke):
    """`failing(error, *arguments)`: run a command that raises `error`."""

    def run(error: BaseException, *arguments: str) -> Result:
        def fail() -> None:
            raise error

        monkeypatch.setattr(targets_module, "all_targets", fail)
        return invoke("targets", "list", *arguments)

    return run


def test_the_commands_are_there() -> None:
    assert set(cli.commands) == {
        *("compile", "inspect", "run", "verify", "bench"),
        *("passes", "targets", "doctor", "completion", "slice", "tune"),
    }


@pytest.mark.parametrize("path", [(), *commands(cli)], ids=" ".join)
def test_every_command_has_help_and_the_global_options(path: tuple[str, ...], invoke) -> None:
    for flag in ("--help", "-h"):
        result = invoke(*path, flag)
        assert result.exit_code == 0
        assert result.stdout.startswith(" ".join(("Usage: cli", *path)))
        for option in ("--format [text|json]", "--verbose", "--quiet"):
            assert option in result.stdout


def test_version(invoke) -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.split()[1][0].isdigit()


def test_no_command_shows_the_help_and_counts_as_wrong_usage(invoke) -> None:
    result = invoke()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launch"], "No such command 'launch'"),
        (["targets", "list", "--fast"], "No such option '--fast'"),
        (["targets", "show"], "Missing argument 'NAME'"),
        (["compile", "m.pt2", "--target", "llvm"], "Missing option '-o' / '--output'"),
        (["bench", "x", "--repeat", "0"], "0 is not in the range x>=1"),
        (["--format", "yaml", "targets", "list"], "'yaml' is not one of 'text', 'json'"),
    ],
)
def test_wrong_usage_is_told_on_stderr_with_the_way_to_help(arguments: list[str], message: str, invoke) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "--help'." in result.stderr


@pytest.mark.parametrize("place", ["before", "after"])
def test_wrong_usage_is_json_when_json_is_asked_for(place: str, invoke) -> None:
    options = ["--format", "json"] if place == "before" else []
    result = invoke(*options, "targets", "show", *(["--format=json"] if place == "after" else []))
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error == {"type": "MissingParameter", "message": "Missing argument 'NAME'.", "exit_code": 2}
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such size"), 2),
        (CaptureError("cannot be captured"), 2),
        (UnsupportedOperatorError("llvm", [Unsupported("aten.fft", ("fft",), ("net.py:3 in forward",), "drop it")]), 3),
        (VerificationError("differs"), 4),
        (BudgetError("the floor is 3 MiB"), 5),
        (MissingToolError("no compiler"), 6),
        (InvalidProgramError("a pass broke it"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_our_errors_print_their_text_and_exit_with_their_code(error: PenstockError, code: int, failing) -> None:
    result = failing(error)
    assert result.exit_code == code == error.exit_code
    assert result.stdout == ""
    assert result.stderr == f"penstock: {error}\n"
    result = failing(error, "--format", "json")
    assert result.exit_code == code
    told = json.loads(result.stdout)["error"]
    assert (told["type"], told["message"], told["exit_code"]) == (type(error).__name__, str(error), code)
    assert result.stderr == ""


def test_unsupported_operators_are_data_in_json(failing) -> None:
    item = Unsupported("aten.fft", ("fft", "fft_1"), ("net.py:3 in forward",), "drop it")
    result = failing(UnsupportedOperatorError("llvm", [item]), "--format", "json")
    assert json.loads(result.stdout)["error"]["unsupported"] == [
        {
            "operator": "aten.fft",
            "nodes": ["fft", "fft_1"],
            "sources": ["net.py:3 in forward"],
            "advice": "drop it",
        }
    ]


def test_an_unexpected_error_is_one_line_without_a_traceback(failing) -> None:
    result = failing(ZeroDivisionError("division by zero\nand more"))
    assert result.exit_code == 1
    assert result.stderr == (
        "penstock: internal error: ZeroDivisionError: division by zero, run with -v for the traceback\n"
    )


def test_an_unexpected_error_shows_its_traceback_when_asked(failing) -> None:
    result = failing(ZeroDivisionError(), "-v")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("penstock: internal error: ZeroDivisionError: no message\n")


def test_control_c_exits_with_130_and_one_line(failing) -> None:
    result = failing(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr.strip() == "penstock: interrupted"


def test_an_exit_code_of_a_command_is_kept(failing) -> None:
    assert failing(SystemExit(7)).exit_code == 7


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


HEAVY = {"torch", "tvm", "onnx", "numpy", "plotly", "jinja2", "pydantic", "rich"}


@pytest.mark.parametrize("arguments", [["--help"], ["compile", "--help"], ["--version"], ["passes", "new"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from penstock.cli.main import cli
try:
    cli.main({arguments!r}, prog_name="penstock")
except SystemExit:
    print("loaded:", *sorted({HEAVY!r} & set(sys.modules)))
"""
    assert run_python(code).stdout.splitlines()[-1] == "loaded:"


def test_listing_targets_and_the_doctor_need_no_torch() -> None:
    code = """
import sys
from penstock.cli.main import cli
for arguments in (["targets", "list"], ["doctor"]):
    try:
        cli.main(arguments, prog_name="penstock")
    except SystemExit:
        pass
print("loaded:", *sorted({"torch", "tvm"} & set(sys.modules)))
"""
    assert run_python(code).stdout.splitlines()[-1] == "loaded:"


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m penstock targets list --format json | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "{\n"
    assert result.stderr == ""


def test_the_module_runs_as_the_command_does() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "penstock", "targets", "show", "adreno-83"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("penstock: unknown target 'adreno-83'; did you mean adreno-830")


def test_the_runner_uses_the_same_entry_as_the_script() -> None:
    assert CliRunner().invoke(cli, ["targets", "list"]).exit_code == 0

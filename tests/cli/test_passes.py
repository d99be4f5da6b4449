from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from penstock.cli.passes import options_of
from penstock.passes.core.base import Pass
from penstock.passes.core.context import Context
from penstock.passes.core.program import Program
from penstock.passes.core.registry import all_passes

ROOT = Path(__file__).parents[2]
RULES = "E,F,W,I,B,UP,N,SIM,C4,PIE,RET,RUF,PT,D,PTH,PERF"


@dataclass(frozen=True)
class Example(Pass):
    """An example."""

    must: int
    ratio: float = 0.5
    names: tuple[str, ...] = field(default_factory=tuple)

    def run(self, program: Program, context: Context) -> Program:
        return program


def test_list_shows_every_pass_and_where_it_comes_from(invoke, invoke_json) -> None:
    text = invoke("passes", "list").stdout
    rows = {row["name"]: row for row in invoke_json("passes", "list")["passes"]}
    assert set(rows) == set(all_passes())
    for name, kind in all_passes().items():
        assert name in text
        assert rows[name]["exactness"] == kind.exactness
        assert rows[name]["module"] == kind.__module__
        assert rows[name]["summary"] == kind.summary() != ""


def test_show_prints_the_documentation(invoke, invoke_json) -> None:
    text = invoke("passes", "show", "half-precision").stdout
    assert text.startswith("half-precision  (lossy, penstock.passes.precision)\n")
    assert "Given::" in text
    data = invoke_json("passes", "show", "half-precision")
    assert data["documentation"].startswith("Store weights")


def test_options_come_with_types_and_defaults() -> None:
    assert options_of(Example) == [
        {"option": "must", "type": "int", "default": "required"},
        {"option": "ratio", "type": "float", "default": "0.5"},
        {"option": "names", "type": "tuple[str, ...]", "default": "()"},
    ]


def test_an_unknown_pass_offers_the_nearest(invoke) -> None:
    result = invoke("passes", "show", "half-precison")
    assert result.exit_code == 2
    assert "unknown pass 'half-precison'; did you mean half-precision" in result.stderr


def test_a_new_pass_works_as_it_stands(invoke_json, tmp_path: Path) -> None:
    data = invoke_json("passes", "new", "drop-unit-scale", "--directory", tmp_path / "mine")
    files = [Path(name) for name in data["files"]]
    assert [path.name for path in files] == ["drop_unit_scale.py", "test_drop_unit_scale.py"]

    def check(*command: object, cwd: Path = tmp_path / "mine") -> None:
        result = subprocess.run(
            [sys.executable, "-m", *map(str, command)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    check("pytest", "-q", "-p", "no:cacheprovider", ".")
    check(
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--select",
        RULES,
        "--config",
        'lint.pydocstyle.convention="google"',
        ".",
    )
    check("ruff", "format", "--isolated", "--no-cache", "--check", ".")
    # With the project's own settings and cache, which `make types` has warmed.
    check("mypy", *files, cwd=ROOT)


def test_a_new_pass_overwrites_nothing(invoke, tmp_path: Path) -> None:
    (tmp_path / "test_my_pass.py").write_text("mine")
    result = invoke("passes", "new", "my-pass", "--directory", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path / 'test_my_pass.py'} already exists; nothing was written" in result.stderr
    assert (tmp_path / "test_my_pass.py").read_text() == "mine"
    assert not (tmp_path / "my_pass.py").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MyPass", "'MyPass' is not a pass name; expected lower-case words"),
        ("my_pass", "'my_pass' is not a pass name"),
        ("-pass", "No such option"),
        ("pad-2d", "'pad-2d' is not a pass name"),
        ("split-a-b", "a word of one letter"),
        ("half-precision", "there is a pass called 'half-precision' already, in penstock.passes.precision"),
        ("json", "'json' is a name of Python itself"),
        ("lambda", "'lambda' is a name of Python itself"),
    ],
)
def test_a_name_that_would_not_work_is_refused(name: str, reason: str, invoke, tmp_path: Path) -> None:
    result = invoke("passes", "new", name, "--directory", tmp_path)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_given_back_by_the_class_it_makes(invoke, tmp_path: Path) -> None:
    for name in ("fold2x", "keep-it-small", "ab-cd2"):
        assert invoke("passes", "new", name, "--directory", tmp_path).exit_code == 0
        module = tmp_path / f"{name.replace('-', '_')}.py"
        class_name = next(line.split()[1].split("(")[0] for line in module.read_text().splitlines() if "class " in line)
        assert type(class_name, (Pass,), {}).name() == name

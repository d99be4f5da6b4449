from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.passes.cleanup.fold_constants import FoldConstants
from penstock.passes.core.errors import UsageError
from penstock.passes.core.options import format_pass, parse_pass, read_pipeline_file
from penstock.passes.core.registry import all_passes


def test_options_are_converted_by_type_and_round_trip() -> None:
    instance = parse_pass("fold-constants:max_growth_bytes=12")
    assert instance == FoldConstants(max_growth_bytes=12)
    assert parse_pass(format_pass(instance)) == instance
    assert format_pass(FoldConstants()) == "fold-constants"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold-constant", "unknown pass 'fold-constant'; did you mean fold-constants"),
        ("zzz", "unknown pass 'zzz'; `penstock passes list` shows all"),
        ("fold-constants:max_growth=1", "has no option 'max_growth'; did you mean 'max_growth_bytes'"),
        ("fold-constants:max_growth_bytes=many", "option 'max_growth_bytes': Input should be a valid integer.*'many'"),
        ("fold-constants:max_growth_bytes", "expected NAME:key=value"),
        ("dead-code:x=1", "has no option 'x'; it has no options"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_pass(text)


def test_a_pipeline_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[[pass]]\nname = "dead-code"\n[[pass]]\nname = "fold-constants"\nmax_growth_bytes = 3\n'
    )
    assert [format_pass(item) for item in read_pipeline_file(path)] == [
        "dead-code",
        "fold-constants:max_growth_bytes=3",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[pass", "cannot read the pipeline file"),
        ('name = "mine"', r"no \[\[pass\]\] tables"),
        ('passes = ["dead-code"]', r"unknown key\(s\) passes"),
        ('[[pass]]\nnaem = "dead-code"', "number 1 has no name"),
        (
            '[[pass]]\nname = "dead-code"\n[[pass]]\nname = "dead-cod"',
            r"number 2: unknown pass 'dead-cod'; did you mean",
        ),
        ('[[pass]]\nname = "fold-constants"\nmax_growth_bytes = "x"', "number 1: pass 'fold-constants', option"),
    ],
)
def test_errors_of_a_pipeline_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_pipeline_file(path)
    assert "mine.toml" in str(caught.value)


def test_every_pass_is_documented_and_says_what_it_is() -> None:
    for name, kind in all_passes().items():
        assert kind.summary().endswith("."), name
        assert kind.exactness in ("exact", "lossy"), name


def test_passes_of_another_package_are_found(tmp_path: Path) -> None:
    """A package announces its passes by an entry point; what fails to load is a warning, not an end."""
    package = tmp_path / "visitor"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "passes.py").write_text(
        "from dataclasses import dataclass\n"
        "from penstock.passes.core.base import Pass, register\n\n\n"
        "@register\n@dataclass(frozen=True)\n"
        'class PaintItBlack(Pass):\n    """A visiting pass."""\n\n'
        "    def run(self, program, context):\n        return program\n"
    )
    info = tmp_path / "visitor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: visitor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[penstock.passes]\nvisitor = visitor.passes\nbroken = visitor.missing\n")
    code = "from penstock.passes.core.registry import find_pass; print(find_pass('paint-it-black').summary())"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "A visiting pass."
    assert "'broken' (visitor.missing) do not load" in done.stderr

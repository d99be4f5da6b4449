from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("shell", "text"), [("bash", "complete -o"), ("zsh", "#compdef penstock"), ("fish", "complete")]
)
def test_a_script_for_each_shell(shell: str, text: str, invoke) -> None:
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert text in result.stdout
    assert "_PENSTOCK_COMPLETE" in result.stdout


def test_an_unknown_shell_is_refused(invoke) -> None:
    result = invoke("completion", "tcsh")
    assert result.exit_code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("penstock ins", {"plain,inspect"}),
        ("penstock compile x --target apple-a18", {"plain,apple-a18", "plain,apple-a18-pro"}),
        ("penstock targets show mali-g71", {"plain,mali-g71", "plain,mali-g710", "plain,mali-g715"}),
        ("penstock passes show half-p", {"plain,half-precision"}),
    ],
)
def test_the_shell_is_answered(words: str, expected: set[str]) -> None:
    environment = {
        **os.environ,
        "_PENSTOCK_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "from penstock.cli.main import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert set(result.stdout.split()) == expected

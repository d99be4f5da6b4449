"""What the tests of commands share: a runner, a small model in a file, and an artifact compiled from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from penstock.cli.main import cli

MODEL = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = torch.nn.Linear(width, 2 * width)
        self.second = torch.nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))


class Tables(Net):
    def __init__(self, width):
        super().__init__(width)
        self.table = torch.nn.Parameter(torch.randn(64, width))

    def forward(self, x):
        return super().forward(x + 2 * self.table.relu())


class Spectrum(torch.nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).abs()


def net():
    torch.manual_seed(0)
    return Net(8), (torch.randn(2, 8),)


def other():
    torch.manual_seed(1)
    return Net(8), (torch.randn(2, 8),)


def wide():
    return Net(16), (torch.randn(2, 16),)


def long():
    return Net(16), (torch.randn(64, 16),)


def tables():
    return Tables(16), (torch.randn(64, 16),)


def large():
    return Net(65536), (torch.empty(1, 65536),)


def reads_values():
    x = torch.ones(2, 8)
    return Net(int(x.sum()) // 2), (x,)


def spectrum():
    return Spectrum(), (torch.randn(2, 8),)
"""

Invoke = Callable[..., Result]


@pytest.fixture
def invoke() -> Invoke:
    """`invoke(*arguments)`: run a command in this process."""
    return lambda *arguments: CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def invoke_json(invoke: Invoke) -> Callable[..., Any]:
    """`invoke_json(*arguments)`: the command's result as data, after checking that it is all of stdout."""

    def run(*arguments: object, code: int = 0) -> Any:
        result = invoke(*arguments, "--format", "json")
        assert result.exit_code == code, result.output
        data = json.loads(result.stdout)
        assert data.pop("schema_version") == 1
        return data

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with models to name as ``FILE:factory``."""
    path = tmp_path_factory.mktemp("models") / "cli_models.py"
    path.write_text(MODEL)
    return path


@pytest.fixture(scope="session")
def net(models: Path) -> str:
    """The model that most tests use."""
    return f"{models}:net"


@pytest.fixture(scope="session")
def artifact(net: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model compiled for this computer."""
    path = tmp_path_factory.mktemp("artifacts") / "net.penstock"
    arguments = ["compile", net, "--target", "llvm", "--pipeline", "none", "--no-cache", "-o", str(path)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def phone_artifact(net: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in half precision, compiled for a phone."""
    path = tmp_path_factory.mktemp("artifacts") / "phone.penstock"
    arguments = ["compile", net, "--target", "adreno-830", "--precision", "float16", "--no-cache", "-o", str(path)]
    result = CliRunner().invoke(cli, [*arguments, "--pipeline", "none"])
    assert result.exit_code == 0, result.output
    return path

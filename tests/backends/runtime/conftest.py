from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.runtime.capi import KINDS
from tests.backends.runtime.samples import rows


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the kernels are, of those that run on this machine."""
    return str(request.param)


@pytest.fixture
def artifact(kind: str, tmp_path: Path) -> Path:
    """`samples.rows` in a folder of its own."""
    return rows(tmp_path / "artifact", kind)

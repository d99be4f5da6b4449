from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.runtime.capi import KINDS, library
from tests.fuzz.damage import DAMAGES
from tests.fuzz.fuzz_plan import Campaign, fuzz, report

pytestmark = [pytest.mark.tool, pytest.mark.native]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_artifacts_run_and_damaged_ones_do_no_harm(kind: str, tmp_path: Path) -> None:
    campaign = Campaign(kind, Path(library()._name), "", 15 / len(KINDS), 0, tmp_path / "findings")
    figures = fuzz(campaign, 0)
    assert not figures.findings, report(figures)
    assert figures.cases["whole"] > 0
    assert figures.codes["edited", "accepted"] > 0
    assert figures.codes["edited", "bad artifact"] > 0
    assert {damage.__name__ for damage, _ in DAMAGES} <= set(figures.cases)

from __future__ import annotations

import pytest

from tests.passes.analysis.graphs import GraphBuilder


@pytest.fixture
def build() -> GraphBuilder:
    return GraphBuilder()

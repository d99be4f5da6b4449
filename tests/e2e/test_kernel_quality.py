"""Nearly all arithmetic of a model is in kernels that pass the criteria of docs/kernels.md, on every family."""

from __future__ import annotations

import pytest

from benchmarks.kernel_report import captured, measure
from penstock.backends.targets import find_target

pytestmark = pytest.mark.models


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("mamba2", ("apple-a18-pro", "opencl")),
        ("vit", ("adreno-830", "mali-g78")),
        ("ltx_vae_decoder", ("apple-a18-pro", "mali-g78", "opencl")),
    ],
)
def test_arithmetic_is_in_good_kernels(name: str, targets: tuple[str, ...]) -> None:
    program = captured(name)
    for target in targets:
        row = measure(name, program, find_target(target))
        assert row.gflops > 0
        assert row.fraction >= 0.99, row.failures

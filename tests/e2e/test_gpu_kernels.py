"""Every model of the zoo compiles for phone GPUs, with a source and a legal launch for every kernel.

Every model meets both precisions; the small ones meet them on every family. (`penstock compile` takes the same path.)
"""

from __future__ import annotations

import pytest

import penstock
from examples.zoo import ZOO
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION

pytestmark = pytest.mark.models

TARGETS = ("apple-a18-pro", "adreno-830", "mali-g78")
LARGE = ("svd_unet", "animatediff_unet", "unet2d")
CASES = [
    (name, precision, targets)
    for name in ZOO
    for precision, targets in (
        ("float16", TARGETS[:1] if name in LARGE else TARGETS),
        ("float32", TARGETS[1:2] if name in LARGE else TARGETS[:2]),
    )
]


@pytest.mark.parametrize(
    ("name", "precision", "targets"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_kernel_has_a_source(name: str, precision: str, targets: tuple[str, ...]) -> None:
    program = penstock.optimize(penstock.capture(*ZOO[name]()), precision=precision)
    legal = Pipeline((*SINGLE_PRECISION, *LEGALIZE)).run(program)
    for target in targets:
        limits = find_target(target).limits
        kernels = compile_program(legal, find_target(target)).kernels
        assert kernels
        for kernel in kernels:
            assert kernel.name in kernel.source
            assert kernel.block[0] * kernel.block[1] * kernel.block[2] <= limits.max_threads, kernel.name
            assert kernel.local_memory_bytes <= limits.local_memory_bytes, kernel.name

"""Every model of the zoo compiles for phone GPUs in both precisions, with a source for every kernel."""

from __future__ import annotations

import pytest

import penstock
from examples.zoo import ZOO
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.precision import HalfPrecision
from penstock.passes.presets import LEGALIZE

pytestmark = pytest.mark.models

TARGETS = ("apple-a18-pro", "adreno-830", "mali-g78")


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", ZOO)
def test_every_kernel_has_a_source(name: str, precision: str) -> None:
    program = penstock.capture(*ZOO[name]())
    half = (HalfPrecision(),) if precision == "float16" else ()
    legal = Pipeline((*half, *LEGALIZE)).run(program)
    for target in TARGETS:
        limits = find_target(target).limits
        kernels = compile_program(legal, find_target(target)).kernels
        assert kernels
        for kernel in kernels:
            threads = kernel.block[0] * kernel.block[1] * kernel.block[2]
            assert kernel.name in kernel.source
            assert threads <= limits.max_threads, kernel.name
            assert kernel.local_memory_bytes <= limits.local_memory_bytes, kernel.name

"""Every model of the zoo on phones: compiled for their GPUs, and simulated here kernel by kernel.

Each model meets Metal in both precisions and OpenCL in half precision; OpenCL in float32 runs on PoCL (test_opencl.py).
Mali's kernels are compiled.

An artifact's numbers are those that PyTorch eager gives for the compiled graph in its own precision, and in half
precision, those of the captured model in float32 as well. Errors are relative to the largest magnitude of an output:
1e-4 in float32, 2e-2 in float16.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import penstock
from examples.zoo import ZOO
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.passes.core import reference
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.verify import compare
from penstock.passes.presets import LEGALIZE, SINGLE_PRECISION

pytestmark = [pytest.mark.models, pytest.mark.native]

APPLE, ADRENO = "apple-a18-pro", "adreno-830"


@pytest.mark.parametrize(("precision", "device"), [("float16", APPLE), ("float16", ADRENO), ("float32", APPLE)])
@pytest.mark.parametrize("name", ZOO)
def test_kernels_compute_what_eager_does(name: str, precision: str, device: str, tmp_path: Path) -> None:
    captured = penstock.capture(*ZOO[name]())
    program = penstock.optimize(captured, precision=precision)
    model = penstock.load(penstock.compile(program, device, tmp_path / "net.penstock", cache=False).path)
    examples = model.examples()
    outputs = model.simulate().run([examples[spec.name] for spec in model.signature.inputs])
    single = reference.run(captured, captured.examples)
    for index, difference in enumerate(model.differences(outputs)):
        assert difference.tolerance == {"float16": 2e-2, "float32": 1e-4}[precision]
        assert difference.ok, difference
        from_eager = compare(difference.name, single[index], outputs[index], difference.tolerance, least_scale=0.0)
        assert from_eager.ok, f"against float32: {from_eager}"


@pytest.mark.parametrize("name", ZOO)
def test_every_kernel_for_mali_is_legal(name: str) -> None:
    program = penstock.optimize(penstock.capture(*ZOO[name]()), precision="float16")
    legal = Pipeline((*SINGLE_PRECISION, *LEGALIZE)).run(program)
    limits = find_target("mali-g78").limits
    kernels = compile_program(legal, find_target("mali-g78")).kernels
    assert kernels
    for kernel in kernels:
        assert kernel.name in kernel.source
        assert kernel.block[0] * kernel.block[1] * kernel.block[2] <= limits.max_threads, kernel.name
        assert kernel.local_memory_bytes <= limits.local_memory_bytes, kernel.name

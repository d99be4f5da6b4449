"""A small artifact made by hand, so that these tests need no compiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from penstock.backends.artifact import Description, write_artifact
from penstock.backends.artifact.manifest import (
    AppliedPass,
    HostRecord,
    KernelRecord,
    LossRecord,
    MemoryRecord,
    SignatureRecord,
)
from penstock.backends.artifact.tensors import check_tensors
from penstock.backends.targets import find_target
from penstock.passes.core.program import Plan, Signature, TensorSpec

FILES = {"lib/model.so": b"object", "kernels/add.cl": b"kernel void add() {}\n", "report.json": b"{}\n"}


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """Three weights; the first two are equal."""
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(6.0).reshape(2, 3), "c": torch.ones(3)}


@pytest.fixture
def description() -> Description:
    """A program of one graph with a state."""
    x, state = TensorSpec("x", (2, 3), torch.float32), TensorSpec("k", (3,), torch.float32)
    y, state_next = TensorSpec("output", (2, 3), torch.float32), TensorSpec("k_next", (3,), torch.float32)
    arguments = {"tuple": [{"tuple": [{"tensor": 0}]}, {"dict": {}}]}
    signature = Signature((x, state), (y, state_next), arguments, {"tensor": 0}, ("k",))
    return Description(
        model="Net",
        target=find_target("adreno-830"),
        host=HostRecord(),
        plan=Plan.single("main", ("x", "k"), ("output", "k_next")),
        signature=SignatureRecord.of(signature),
        passes=(AppliedPass(setting="half-precision", exactness="lossy"),),
        losses={"half-precision": (LossRecord(output="output", max_error=1e-3, mean_error=1e-4, scale=1.0),)},
        memory=MemoryRecord(weight_bytes=60, activation_bytes=48, arena_bytes=128, lower_bound_bytes=84),
        kernels=(
            KernelRecord(
                name="add",
                file="kernels/add.cl",
                language="opencl",
                arguments=("float32[2,3]",),
                grid=(1, 1, 1),
                block=(64, 1, 1),
                local_memory_bytes=0,
            ),
        ),
        functions={"main": ("a", "b", "c")},
        library=None,
        tools={"penstock": "0.1.0"},
    )


@pytest.fixture
def write(description: Description, weights: dict[str, torch.Tensor]) -> Callable[[Path], Path]:
    """`write(path)`: write the artifact there."""
    inputs = {"x": torch.ones(2, 3), "k": torch.zeros(3)}
    outputs = {"output": torch.ones(2, 3), "k_next": torch.ones(3)}

    def write(path: Path) -> Path:
        write_artifact(path, description, FILES, weights, check_tensors(inputs, outputs), lambda *_: b"{}\n")
        return path

    return write

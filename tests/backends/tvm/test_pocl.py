"""Functions that PoCL cannot inline are defined in the kernel; what they compute, every OpenCL test checks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backends.tvm.pocl import inlined
from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.gpu.kernels import assert_equals_eager, kernels_of


def test_only_what_a_kernel_uses_is_defined() -> None:
    kernel = "vstore4(max(vload4(0, x), (float4)(0.0f)), 0, y);\n"
    text = inlined(kernel)
    assert text.endswith(kernel)
    assert "#define vload4" in text
    assert "#define max" in text
    for unused in ("vload8", "select", "define min"):
        assert unused not in text


def test_extrema_of_vectors_that_are_loaded_and_stored_at_once(tmp_path: Path) -> None:
    assert_equals_eager(Function(torch.maximum), (torch.randn(1, 32), torch.randn(1, 32)), tmp_path)


def test_a_kernel_without_such_functions_stays() -> None:
    assert inlined("y[i] = x[i] * 2.0f;\n") == "y[i] = x[i] * 2.0f;\n"


@pytest.mark.parametrize(("target", "defined"), [("opencl", True), ("adreno-830", False), ("mali-g78", False)])
def test_phones_keep_the_functions_of_the_language(target: str, defined: bool) -> None:
    (kernel,) = kernels_of(nn.Linear(16, 16), (torch.randn(8, 16),), target)
    assert ("POCL_DEVICE_ADDRESS_BITS" in kernel.source) == defined


def test_a_repeated_border_in_vectors_of_places(tmp_path: Path) -> None:
    pad = Function(lambda x: nn.functional.pad(x, (1, 2, 2, 0, 1, 1), mode="replicate") * 2)
    assert_equals_eager(pad, (torch.randn(1, 2, 5, 6, 7),), tmp_path)

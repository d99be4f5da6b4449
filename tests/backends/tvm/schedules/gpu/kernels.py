"""Kernels of single modules, to be looked at and to be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from penstock.backends.plan.launches import Kernel
from penstock.backends.quality import faults
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.frontends.torch_export import capture_module
from tests.backends.tvm.execute import runner_of

PHONES = ("apple-a18-pro", "adreno-830", "mali-g78")


def kernels_of(module: torch.nn.Module, args: Sequence[torch.Tensor], target: str) -> tuple[Kernel, ...]:
    return compile_program(capture_module(module.eval(), tuple(args)), find_target(target)).kernels


def assert_no_faults(module: torch.nn.Module, args: Sequence[torch.Tensor]) -> None:
    """Every kernel passes the criteria on every family, in the precision of the device."""
    for target in (*PHONES, "opencl"):
        half = find_target(target).limits.fp16
        taken = [arg.half() if half and arg.is_floating_point() else arg for arg in args]
        for kernel in kernels_of(module.half() if half else module.float(), taken, target):
            assert not faults(kernel, find_target(target)), f"{kernel.name} on {target}: {kernel.work}"
    module.float()


def assert_equals_eager(module: torch.nn.Module, args: Sequence[torch.Tensor], folder: Path) -> None:
    """Run on whatever OpenCL device this machine has."""
    with torch.no_grad():
        expected = module.eval()(*args)
    result = runner_of(capture_module(module, tuple(args)), folder, "opencl").run(tuple(args))[0]
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)

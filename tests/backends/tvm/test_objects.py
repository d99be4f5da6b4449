import pytest
import torch
from torch import nn

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.frontends.torch_export import capture_module
from penstock.passes.core.program import Program


def many_kernels() -> Program:
    """Twenty linear layers, none like another."""
    layers = [nn.Linear(8 + n, 9 + n) for n in range(20)]
    return capture_module(nn.Sequential(*layers), (torch.randn(2, 8),))


def test_a_library_is_the_same_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    program, libraries = many_kernels(), []
    for threads in ("1", "3"):
        monkeypatch.setenv("PENSTOCK_THREADS", threads)
        compiled = compile_program(program, find_target("llvm"))
        assert len(compiled.kernels) > 16  # so that there are several object files
        libraries.append(compiled.library)
    assert libraries[0] == libraries[1]


def test_a_program_without_kernels_has_a_library() -> None:
    class View(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(4, 2)

    compiled = compile_program(capture_module(View(), (torch.randn(2, 4),)), find_target("llvm"))
    assert not compiled.kernels
    assert compiled.library

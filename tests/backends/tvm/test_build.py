from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from penstock.backends.plan.launches import Kernel
from penstock.backends.targets import find_target
from penstock.backends.tvm import link
from penstock.backends.tvm.build import compile_program
from penstock.frontends.torch_export import capture_module
from penstock.passes.core.errors import MissingToolError, UnsupportedOperatorError, UsageError
from penstock.passes.core.program import Program
from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.gpu.kernels import assert_equals_eager

GPUS = ("apple-a18-pro", "adreno-830", "mali-g78")


class Block(nn.Module):
    """A convolution, a group norm, a depthwise convolution, a matmul and an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.linear = nn.Linear(16, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(nn.functional.silu(self.norm(self.conv(x))))
        tokens = x.flatten(2).transpose(1, 2)
        return self.linear(nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)).softmax(-1)


def program(dtype: torch.dtype = torch.float32) -> Program:
    torch.manual_seed(0)
    return capture_module(Block().to(dtype), (torch.randn(1, 4, 8, 8, dtype=dtype),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("target", GPUS)
def test_every_kernel_stands_alone(target: str, dtype: torch.dtype) -> None:
    chosen = find_target(target)
    kernels = compile_program(program(dtype), chosen).kernels
    assert len(kernels) >= 5
    entry = "__kernel void" if chosen.kind == "opencl" else "kernel void"
    for kernel in kernels:
        assert kernel.source.count(f"{entry} {kernel.entry}(") >= 1
        assert not any(other.entry in kernel.source for other in kernels if _is_other(other, kernel))
        _keeps_limits(kernel, chosen.limits.max_threads, chosen.limits.local_memory_bytes)


def _is_other(other: Kernel, kernel: Kernel) -> bool:
    return other.entry not in kernel.entry and kernel.entry not in other.entry


def _keeps_limits(kernel: Kernel, max_threads: int, local_memory: int) -> None:
    assert kernel.block[0] * kernel.block[1] * kernel.block[2] <= max_threads
    assert kernel.local_memory_bytes <= local_memory
    assert all(extent >= 1 for extent in (*kernel.grid, *kernel.block))
    assert kernel.arguments
    assert kernel.writes


def test_launches_cover_the_result() -> None:
    module = nn.ReLU()
    kernels = compile_program(capture_module(module, (torch.randn(3, 1000),)), find_target("adreno-830")).kernels
    (kernel,) = kernels
    vectors = 3000 / 4
    assert vectors <= kernel.grid[0] * kernel.block[0] <= 2 * vectors


def test_depthwise_convolution_has_no_work_group_per_result() -> None:
    module = nn.Conv2d(64, 64, 3, padding=1, groups=64)
    kernels = compile_program(capture_module(module, (torch.randn(1, 64, 16, 16),)), find_target("mali-g78")).kernels
    groups = max(kernel.grid[0] * kernel.grid[1] * kernel.grid[2] for kernel in kernels)
    assert groups < 64 * 16 * 16


@pytest.mark.tool
@pytest.mark.parametrize(("target", "magic"), [("ios-cpu", b"\xcf\xfa\xed\xfe"), ("android-cpu", b"\x7fELF")])
def test_cpu_kernels_are_for_the_phone(target: str, magic: bytes) -> None:
    content = compile_program(program(), find_target(target)).library
    assert content is not None
    assert content.startswith(magic)
    assert (b"\xb7\x00" if magic == b"\x7fELF" else b"\x0c\x00\x00\x01") in content[:20]


@pytest.mark.tool
def test_an_android_library_asks_for_nothing_but_libc_and_libm(tmp_path: Path) -> None:
    (tmp_path / "model.so").write_bytes(compile_program(program(), find_target("android-cpu")).library or b"")
    text = subprocess.run(["readelf", "-dW", tmp_path / "model.so"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"NEEDED.*\[(.*)\]", text)) <= {"libc.so", "libm.so"}


@pytest.mark.parametrize("target", GPUS)
def test_a_gpu_needs_no_host_code(target: str) -> None:
    assert compile_program(program(), find_target(target)).library is None


def test_two_processes_build_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import hashlib, torch\n"
        "from penstock.backends.targets import find_target\n"
        "from penstock.backends.tvm.build import compile_program\n"
        "from penstock.frontends.torch_export import capture_module\n"
        "torch.manual_seed(0)\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GroupNorm(2, 8), torch.nn.SiLU())\n"
        "program = capture_module(net, (torch.randn(1, 3, 8, 8),))\n"
        "for name in ('llvm', 'adreno-830'):\n"
        "    compiled = compile_program(program, find_target(name))\n"
        "    print(name, compiled.bodies, hashlib.sha256(compiled.library or b'').hexdigest())\n"
        "    for kernel in compiled.kernels: print(kernel)\n"
    )
    texts = []
    for folder in ("first", "a-second-folder-of-another-length"):
        (tmp_path / folder).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / folder, capture_output=True, text=True, check=True
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert "fused_conv2d" in texts[0]


def test_weights_are_inputs_and_not_constants_of_the_library() -> None:
    module = nn.Linear(256, 256)
    content = compile_program(capture_module(module, (torch.randn(1, 256),)), find_target("llvm")).library
    assert content is not None
    assert len(content) < 256 * 256 * 4


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.shutil, "which", lambda _: None)
    with pytest.raises(MissingToolError, match=r"no C compiler .* install one"):
        compile_program(capture_module(nn.ReLU(), (torch.randn(4),)), find_target("llvm"))


def test_fake_weights_are_refused() -> None:
    with FakeTensorMode():
        module, args = nn.Linear(4, 4), (torch.randn(1, 4),)
    with pytest.raises(UsageError, match="captured on fake tensors"):
        compile_program(capture_module(module, args), find_target("llvm"))


def test_all_unsupported_operators_at_once() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x) + torch.fft.fft(x).real + torch.linalg.inv(x + 1)

    with pytest.raises(UnsupportedOperatorError) as caught:
        compile_program(capture_module(Odd(), (torch.eye(3),)), find_target("llvm"))
    text = str(caught.value)
    assert "linalg_inv_ex" in text
    assert "× 2" in text
    assert "fft" in text
    assert "test_build.py" in text
    assert "way out" in text


def test_a_kernel_that_does_not_read_an_operand_takes_it_all_the_same(tmp_path: Path) -> None:
    def model(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([y + 1, x * torch.zeros_like(y), z])

    assert_equals_eager(Function(model), (torch.randn(4), torch.randn(4), torch.randn(3)), tmp_path)

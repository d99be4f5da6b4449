from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import compile_program
from penstock.frontends.torch_export import capture_module
from tests.backends.tvm.execute import runner_of

Tensors = tuple[torch.Tensor, ...]


class Attend(torch.nn.Module):
    def __init__(self, causal: bool = False, scale: float | None = None) -> None:
        super().__init__()
        self.causal, self.scale = causal, scale

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None):  # type: ignore[no-untyped-def]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal, scale=self.scale)


def qkv(queries: int, keys: int, width: int, value_width: int | None = None) -> Tensors:
    torch.manual_seed(0)
    shapes = ((2, 3, queries, width), (2, 3, keys, width), (2, 3, keys, value_width or width))
    return tuple(torch.randn(shape) for shape in shapes)


def masked(fill: float) -> torch.Tensor:
    mask = torch.randn(1, 1, 10, 14)
    mask[..., 3] = fill
    mask[:, :, 5] = fill
    return mask


CASES: dict[str, tuple[torch.nn.Module, Tensors]] = {
    "self": (Attend(), qkv(16, 16, 8)),
    "cross": (Attend(), qkv(10, 14, 8)),
    "odd sizes": (Attend(), qkv(7, 13, 5, 11)),
    "one key": (Attend(), qkv(4, 1, 8)),
    "causal": (Attend(causal=True), qkv(9, 9, 8)),
    "causal, fewer keys": (Attend(causal=True), qkv(9, 5, 8)),
    "scaled": (Attend(scale=0.3), qkv(10, 14, 8)),
    "mask": (Attend(), (*qkv(10, 14, 8), torch.randn(2, 3, 10, 14))),
    "broadcast mask": (Attend(), (*qkv(10, 14, 8), torch.randn(1, 1, 1, 14))),
    "a row masked with -inf": (Attend(), (*qkv(10, 14, 8), masked(-torch.inf))),
    "a row masked with the lowest number": (Attend(), (*qkv(10, 14, 8), masked(torch.finfo(torch.float32).min))),
    "wide heads": (Attend(), qkv(5, 6, 512)),
    "large scores": (Attend(scale=50.0), qkv(10, 14, 8)),
}


@pytest.fixture
def run(tmp_path) -> Callable[[torch.nn.Module, Tensors], torch.Tensor]:  # type: ignore[no-untyped-def]
    def run(module: torch.nn.Module, args: Tensors) -> torch.Tensor:
        return runner_of(capture_module(module, args), tmp_path).run(args)[0]

    return run


@pytest.mark.parametrize("name", CASES)
def test_equals_eager(name: str, run: Callable[[torch.nn.Module, Tensors], torch.Tensor]) -> None:
    module, args = CASES[name]
    torch.testing.assert_close(run(module, args), module(*args), rtol=1e-5, atol=1e-5)


def test_half_precision_accumulates_in_single(run: Callable[[torch.nn.Module, Tensors], torch.Tensor]) -> None:
    args = tuple(tensor.half() for tensor in qkv(10, 300, 8))
    exact = Attend()(*(tensor.double() for tensor in args))
    error = (run(Attend(), args).double() - exact).abs().max()
    assert error <= exact.abs().max() * 2**-10, "more than the rounding of the result itself"


@pytest.mark.parametrize("target", ["llvm", "adreno-830", "apple-a18-pro", "mali-g78"])
def test_no_buffer_holds_the_scores(target: str) -> None:
    """With 3000 keys, a score matrix (or one row per work-group in shared memory) could not stay unseen."""
    program = capture_module(Attend(), qkv(500, 3000, 16))
    compiled = compile_program(program, find_target(target))
    (kernel,) = [kernel for kernel in compiled.kernels if "attention" in kernel.name]
    assert len(kernel.arguments) == 4, "query, key, value and result; no scratch buffer"
    assert kernel.local_memory_bytes <= 8192, "a block of scores, whatever the number of keys"
    assert len(compiled.kernels) == 1

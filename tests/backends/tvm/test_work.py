from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

from penstock.backends.tvm import work
from tests.backends.tvm.execute import Function
from tests.backends.tvm.schedules.gpu.kernels import kernels_of

r = torch.randn


def test_a_product_does_two_operations_per_multiply_add() -> None:
    (kernel,) = kernels_of(nn.Linear(64, 128), (r(1, 256, 64),), "mali-g78")
    assert kernel.work.flops == 2 * 256 * 64 * 128 + 256 * 128, "and one per bias"
    assert kernel.work.moved_bytes == 4 * (256 * 64 + 64 * 128 + 128 + 256 * 128)


def test_a_convolution_counts_as_the_cost_analysis_does() -> None:
    (kernel,) = kernels_of(nn.Conv2d(16, 32, 3, padding=1, bias=False), (r(1, 16, 32, 32),), "adreno-830")
    assert kernel.work.flops == 2 * 32 * 32 * 32 * 16 * 9


def test_an_elementwise_kernel_touches_each_byte_once_and_in_order() -> None:
    (kernel,) = kernels_of(Function(lambda a, b: a + b), (r(64, 64), r(64, 64)), "apple-a18-pro")
    work = kernel.work
    assert (work.flops, work.loads) == (4096, 8192)
    assert work.moved_bytes == work.touched_bytes == 3 * 4 * 4096
    assert work.disorderly_bytes == 0


def test_a_copy_that_jumps_is_disorderly() -> None:
    (kernel,) = kernels_of(Function(lambda x: x.transpose(0, 1).contiguous()), (r(63, 257),), "adreno-830")
    assert kernel.work.disorderly_bytes == kernel.work.touched_bytes // 2, "what is read; 63 and 257 have no vectors"


def test_an_address_over_an_unknown_number_is_0() -> None:
    threads = np.arange(6)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # numpy's, of a division by zero
        assert not work.quotient(threads, 0).any()
        assert np.array_equal(work.remainder(threads, 0), threads)
        assert np.array_equal(
            work.quotient(threads, np.array([[0, 4]])), np.stack([0 * threads, threads // 4], 1)[..., 0]
        )
        assert np.array_equal(work.remainder(threads, 4), threads % 4)

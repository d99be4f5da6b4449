"""What a kernel must not do is reported, with its name, the thread and the place."""

from __future__ import annotations

import pytest
import torch

from penstock.passes.core.errors import VerificationError
from tests.backends.simulator.kernels import metal, opencl, simulate

X = torch.arange(32.0)
OUT = torch.empty(32)


def fault(language: str, source: str, **numbers: object) -> str:
    with pytest.raises(VerificationError) as caught:
        simulate(language, source, [X], [OUT], **numbers)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_barrier_that_some_threads_do_not_reach() -> None:
    body = "if (threadIdx < 20) {\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n}\ny[threadIdx] = x[threadIdx];"
    text = fault("metal", metal(body, "float* x", "float* y"))
    assert "kernel 'wanted' failed" in text
    assert "divergent barrier in line 7 of its source: 20 of 32 threads of group (0, 0, 0) wait there" in text
    assert "but thread (20, 0, 0) has ended" in text


def test_threads_at_different_barriers() -> None:
    body = (
        "if (get_local_id(0) % 2) {\nbarrier(CLK_LOCAL_MEM_FENCE);\n} else {\nbarrier(CLK_LOCAL_MEM_FENCE);\n}\n"
        "y[get_local_id(0)] = x[get_local_id(0)];"
    )
    text = fault("opencl", opencl(body, "float* x", "float* y"))
    assert "divergent barrier in line 6" in text
    assert "waits in line 4" in text


def test_a_barrier_of_half_a_simd_group() -> None:
    body = "if (threadIdx < 16) {\nsimdgroup_barrier(mem_flags::mem_threadgroup);\n}\ny[threadIdx] = x[threadIdx];"
    text = fault("metal", metal(body, "float* x", "float* y"))
    assert "16 of 32 threads of a SIMD-group" in text


def test_shared_memory_read_without_a_barrier() -> None:
    body = "threadgroup float s[32];\ns[threadIdx] = x[threadIdx];\ny[threadIdx] = s[31 - threadIdx];"
    text = fault("metal", metal(body, "float* x", "float* y"))
    assert "kernel 'wanted'" in text
    assert "a race" in text or "which nobody wrote" in text


def test_shared_memory_overwritten_while_others_read() -> None:
    body = (
        "__local float s[32];\ns[get_local_id(0)] = x[get_local_id(0)];\nbarrier(CLK_LOCAL_MEM_FENCE);\n"
        "float v = s[31 - get_local_id(0)];\ns[get_local_id(0)] = v;\nbarrier(CLK_LOCAL_MEM_FENCE);\n"
        "y[get_local_id(0)] = s[get_local_id(0)];"
    )
    text = fault("opencl", opencl(body, "float* x", "float* y"))
    assert "since the last barrier: a race" in text
    assert " s[" in text


def test_shared_memory_that_nobody_wrote() -> None:
    body = "threadgroup float s[40];\ns[threadIdx] = x[threadIdx];\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n"
    text = fault("metal", metal(body + "y[threadIdx] = s[threadIdx + 1];", "float* x", "float* y"))
    assert "thread (31, 0, 0) of group (0, 0, 0) reads s[32], which nobody wrote" in text


def test_two_groups_that_write_one_place() -> None:
    text = fault("metal", metal("y[threadIdx] = x[threadIdx] + blockIdx;", "float* x", "float* y"), grid=(2, 1, 1))
    assert "writes another value to y[0] when its threads run in the reverse order: a race" in text


@pytest.mark.parametrize("place", ["threadIdx + 1", "(int)threadIdx - 1"])
def test_a_buffer_read_out_of_bounds(place: str) -> None:
    text = fault("metal", metal(f"y[threadIdx] = x[{place}];", "float* x", "float* y"))
    thread, first = (31, 128) if "+" in place else (0, -4)
    assert (
        f"thread ({thread}, 0, 0) of group (0, 0, 0) touches bytes {first} to {first + 4} of x, which has 128" in text
    )


def test_a_buffer_written_out_of_bounds() -> None:
    body = "vstore4(vload4(0, x + get_local_id(0)), 0, y + get_local_id(0));"
    text = fault("opencl", opencl(body, "float* x", "float* y"))
    assert "touches bytes 128 to 132 of x" in text


def test_a_private_array_out_of_bounds() -> None:
    body = "thread float v[4];\nfor (int i = 0; i < 5; ++i) v[i] = x[i];\ny[threadIdx] = v[0];"
    text = fault("metal", metal(body, "float* x", "float* y"))
    assert "touches bytes 16 to 20 of a private array, which has 16" in text


def test_a_shared_array_out_of_bounds() -> None:
    body = "threadgroup float s[16];\ns[threadIdx] = x[threadIdx];\ny[threadIdx] = 0;"
    text = fault("metal", metal(body, "float* x", "float* y"))
    assert "touches bytes" in text
    assert "of s, which has 64" in text


def test_a_vector_at_an_odd_address() -> None:
    body = "*(device float4*)(y + 4 * threadIdx) = *(device float4*)(x + 1);"
    text = fault("metal", metal(body, "float* x", "float* y"), block=(8, 1, 1))
    assert "takes a vector at byte 4 of x, which is no multiple of 16" in text


def test_a_shuffle_from_a_lane_that_is_not_there() -> None:
    text = fault("metal", metal("y[threadIdx] = simd_shuffle(x[threadIdx], 40);", "float* x", "float* y"))
    assert "calls simd_shuffle in line 6 for lane 40 of 32" in text


def test_too_many_threads() -> None:
    text = fault("opencl", opencl("y[0] = x[0];", "float* x", "float* y"), block=(512, 1, 1))
    assert text == "kernel 'wanted' has work-groups of 512 threads; adreno-830 allows 256"


def test_too_much_shared_memory() -> None:
    body = "threadgroup float s[10000];\ns[threadIdx] = x[threadIdx];\ny[threadIdx] = s[threadIdx];"
    text = fault("metal", metal(body, "float* x", "float* y"))
    assert text == "kernel 'wanted' shares 40000 bytes in a work-group; apple-a18-pro has 32768"


def test_a_run_after_a_fault() -> None:
    fault("metal", metal("threadgroup_barrier(mem_flags::mem_none);\ny[threadIdx + 1] = 0;", "float* x", "float* y"))
    source = metal("threadgroup_barrier(mem_flags::mem_none);\ny[threadIdx] = x[threadIdx];", "float* x", "float* y")
    assert torch.equal(simulate("metal", source, [X], [OUT])[0], X)

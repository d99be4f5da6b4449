"""What kernels may write in either language computes what the language says."""

from __future__ import annotations

import torch

from tests.backends.simulator.kernels import metal, opencl, simulate

X = torch.linspace(-3, 3, 128)
HALF = X.half()


def test_metal_vectors_of_halves() -> None:
    body = (
        "*(device half4*)(y + 4 * (int)threadIdx) = ((half4)(((float4)*(device half4*)(x + 4 * (int)threadIdx))"
        " * ((float4)*(device half4*)(x + 4 * (int)threadIdx)) + float4(1.0f, 2.0f, 3.0f, 4.0f)));"
    )
    (found,) = simulate("metal", metal(body, "half* x", "half* y"), [HALF], [torch.empty(128).half()])
    expected = (HALF.float() ** 2 + torch.tensor([1.0, 2, 3, 4]).repeat(32)).half()
    assert torch.equal(found, expected)


def test_metal_select_and_maximum() -> None:
    body = (
        "half4 v = *(device half4*)(x + 4 * (int)threadIdx);\n"
        "half4 zero = half4(0.000000e+00h);\n"
        "*(device half4*)(y + 4 * (int)threadIdx) = select(max(v, half4(1.000000e+00h)), -v, (v < zero));"
    )
    (found,) = simulate("metal", metal(body, "half* x", "half* y"), [HALF], [torch.empty(128).half()])
    assert torch.equal(found, torch.where(HALF < 0, -HALF, HALF.clamp(min=1)))


def test_metal_sums_over_a_simd_group() -> None:
    body = (
        "thread float t[1];\nt[0] = x[threadIdx];\nt[0] = (t[0] + simd_shuffle_down(t[0], 16));\n"
        "t[0] = (t[0] + simd_shuffle_down(t[0], 8));\nt[0] = (t[0] + simd_shuffle_down(t[0], 4));\n"
        "t[0] = (t[0] + simd_shuffle_down(t[0], 2));\nt[0] = (t[0] + simd_shuffle_down(t[0], 1));\n"
        "y[threadIdx] = simd_shuffle(t[0], 0);\nz[threadIdx] = simd_sum(x[threadIdx]);\n"
    )
    outputs = [torch.empty(128), torch.empty(128)]
    sums, direct = simulate("metal", metal(body, "float* x", "float* y", "float* z"), [X], outputs, block=(128, 1, 1))
    expected = X.reshape(4, 32).sum(1).repeat_interleave(32)
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(direct, expected)


def test_a_lane_that_takes_no_part_gives_nan() -> None:
    body = "if (threadIdx < 16) {\ny[threadIdx] = simd_shuffle_xor(x[threadIdx], 16);\n}"
    (found,) = simulate("metal", metal(body, "float* x", "float* y"), [X], [torch.empty(16)])
    assert found.isnan().all()


def test_metal_matrices() -> None:
    a, b = torch.rand(8, 16).half(), torch.rand(8, 16).half()
    body = (
        "threadgroup half s[128];\nsimdgroup_half8x8 p[1];\nsimdgroup_half8x8 q[1];\nsimdgroup_float8x8 total[1];\n"
        "for (int i = 0; i < 4; ++i) s[i * 32 + threadIdx] = a[i * 32 + threadIdx];\n"
        "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
        "total[0] = make_filled_simdgroup_matrix<float, 8, 8>(0.000000e+00f);\n"
        "for (int k = 0; k < 2; ++k) {\nsimdgroup_load(p[0], s + k * 8, 16, 0, false);\n"
        "simdgroup_load(q[0], b + k * 8, 16, 0, true);\n"
        "simdgroup_multiply_accumulate(total[0], p[0], q[0], total[0]);\n}\n"
        "simdgroup_store(total[0], y, 8, 0, false);"
    )
    (found,) = simulate("metal", metal(body, "half* a", "half* b", "float* y"), [a, b], [torch.empty(8, 8)])
    torch.testing.assert_close(found, a.float() @ b.float().T)


def test_opencl_vectors() -> None:
    body = (
        "int i = (convert_int(get_local_id(0))) * 4;\nfloat t[4];\n"
        "vstore4((convert_float4(vload4(0, x + i))) * ((float4)(1.0f, 2.0f, 3.0f, 4.0f)), 0, t + 0);\n"
        "half4 v = (half4)((half)t[0], (half)t[1], (half)t[2], (half)t[3]);\n"
        "half4 zero = ((half4)((half)0.0f, (half)0.0f, (half)0.0f, (half)0.0f));\n"
        "vstore4(select(v, (half4)((half)0.5f), (convert_short4(v < zero))), 0, y + i);"
    )
    (found,) = simulate("opencl", opencl(body, "half* x", "half* y"), [HALF], [torch.empty(128).half()])
    scaled = (HALF.float() * torch.tensor([1.0, 2, 3, 4]).repeat(32)).half()
    assert torch.equal(found, torch.where(scaled < 0, torch.tensor(0.5).half(), scaled))


def test_opencl_shared_memory_and_work_item_functions() -> None:
    body = (
        "__local half s[64];\ns[get_local_id(1) * 8 + get_local_id(0)] = x[get_global_id(1) * 8 + get_local_id(0)];\n"
        "barrier(CLK_LOCAL_MEM_FENCE);\n"
        "y[get_group_id(1) * 64 + get_local_id(0) * 8 + get_local_id(1)] = "
        "((float)((volatile __local half*)s)[get_local_id(1) * 8 + get_local_id(0)]);"
    )
    source = opencl(body, "half* x", "float* y")
    (found,) = simulate("opencl", source, [HALF], [torch.empty(128)], (1, 2, 1), (8, 8, 1), 128)
    assert torch.equal(found, HALF.float().reshape(2, 8, 8).transpose(1, 2).reshape(-1))


def test_a_group_may_have_more_threads_than_a_simd_group_and_wait_often() -> None:
    body = (
        "threadgroup float s[128];\ns[threadIdx] = x[threadIdx];\n"
        "for (int step = 64; step > 0; step /= 2) {\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n"
        "if (threadIdx < step) s[threadIdx] = max(s[threadIdx], s[threadIdx + step]);\n}\n"
        "threadgroup_barrier(mem_flags::mem_threadgroup);\ny[threadIdx] = s[0];"
    )
    (found,) = simulate("metal", metal(body, "float* x", "float* y"), [X], [torch.empty(128)], block=(128, 1, 1))
    assert torch.equal(found, X.max().expand(128))

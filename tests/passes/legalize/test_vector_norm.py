from __future__ import annotations

import torch

from penstock.passes.legalize.vector_norm import VectorNorm


def test_the_euclidean_norm(run_pass, assert_listing):
    def model(x):
        return torch.linalg.vector_norm(x, 2, 1, keepdim=True)

    _, after = run_pass(model, (torch.randn(2, 4, 8),), VectorNorm())
    assert_listing(
        after,
        """graph main
        in   x                                                                      f32[2, 4, 8]
        linalg_vector_norm_mul = mul(x, x)                                          f32[2, 4, 8]
        linalg_vector_norm_sum = sum.dim_IntList(linalg_vector_norm_mul, [1], True) f32[2, 1, 8]
        linalg_vector_norm = sqrt(linalg_vector_norm_sum)                           f32[2, 1, 8]
        return (linalg_vector_norm)
        """,
    )


def test_every_order_over_some_and_all_dimensions(run_pass, op_names):
    orders = [0, 0.5, 1, 2, 3, float("inf"), float("-inf")]

    def model(x):
        norm = torch.linalg.vector_norm
        return [(norm(x, order, (0, -1)), norm(x, order)) for order in orders]

    x = torch.randn(2, 4, 3)
    x[0, 0] = 0
    _, after = run_pass(model, (x,), VectorNorm())
    assert "linalg_vector_norm" not in op_names(after)


def test_half_precision_is_summed_in_float32(run_pass):
    x = torch.full((4, 64), 100.0, dtype=torch.float16)  # 64 · 100² overflows float16
    _, after = run_pass(lambda x: torch.linalg.vector_norm(x, 2, 1), (x,), VectorNorm())
    sums = [node for node in after.graphs["main"].graph.nodes if node.name.endswith("_sum")]
    assert [node.meta["val"].dtype for node in sums] == [torch.float32]


def test_a_named_dtype(run_pass):
    def model(x):
        return torch.linalg.vector_norm(x, 2, 1, dtype=torch.float64)

    run_pass(model, (torch.randn(2, 4),), VectorNorm())


def test_a_graph_without_one_stays(run_pass):
    before, after = run_pass(lambda x: x.abs().sum(), (torch.randn(2, 3),), VectorNorm())
    assert after is before

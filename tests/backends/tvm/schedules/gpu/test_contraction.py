from __future__ import annotations

from tvm import s_tir, te

from penstock.backends.tvm.schedules.gpu.contraction import Contraction, find_contraction


def _found(*tensors: te.Tensor) -> Contraction | None:
    return find_contraction(s_tir.Schedule(te.create_prim_func(list(tensors))))


def test_a_convolution_by_packed_weights() -> None:
    x, w = te.placeholder((2, 6, 8, 8), name="x"), te.placeholder((3, 3, 6, 4), name="w")
    y, z, c = te.reduce_axis((0, 3)), te.reduce_axis((0, 3)), te.reduce_axis((0, 6))
    result = te.compute((2, 4, 6, 6), lambda n, f, i, j: te.sum(x[n, c, i + y, j + z] * w[y, z, c, f], axis=[y, z, c]))
    found = _found(x, w, result)
    assert found is not None
    assert (found.batch, found.m, found.n, found.k) == ((), (0, 2, 3), (1,), (4, 5, 6))
    assert found.rows_follow_m
    assert found.columns_follow_n


def test_the_operand_that_runs_along_its_own_axis_is_the_one_in_vectors() -> None:
    a, b = te.placeholder((5, 4), name="a"), te.placeholder((5, 7), name="b")
    k = te.reduce_axis((0, 5))
    found = _found(a, b, te.compute((4, 7), lambda i, j: te.sum(a[k, i] * b[k, j], axis=k)))
    assert found is not None
    assert found.rows == 0
    assert found.columns_follow_n


def test_a_sum_is_none() -> None:
    a = te.placeholder((4, 5), name="a")
    k = te.reduce_axis((0, 5))
    assert _found(a, te.compute((4,), lambda i: te.sum(a[i, k], axis=k))) is None

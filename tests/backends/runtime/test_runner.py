"""What the native runner computes from hand-made artifacts; every number is exact."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.runtime import capi
from tests.backends.runtime.capi import KINDS, Model, RunnerError
from tests.backends.runtime.plans import ROW, ROW_BYTES, call, copy, edit, graph, launch, loop, value, write
from tests.backends.runtime.samples import doubling

pytestmark = pytest.mark.native
ROWS = "int32[4,32]"
rng = np.random.default_rng(0)


def row() -> np.ndarray:
    return rng.integers(-1000, 1000, 32, dtype=np.int32)


def rows() -> np.ndarray:
    return rng.integers(-1000, 1000, (4, 32), dtype=np.int32)


def test_launches_read_and_write_at_their_offsets(kind: str, tmp_path: Path) -> None:
    values = [value("x", ROW, "parameter", 0), value("sum", ROW, "arena", 0, 384), value("y", ROW, "parameter", 1)]
    main = graph([ROW, ROW], values, [launch(0, 0, 0, 1), launch(1, 1, 2)])
    top = [value("x", ROW, "arena", 0, 128), value("y", ROW, "arena", 0, 640)]
    kernels = [("add", ROW, ROW, ROW), ("twice", ROW, ROW)]
    write(
        tmp_path, kind, arenas=[768], kernels=kernels, graphs={"main": main}, values=top, inputs=[0], outputs=[1],
        steps=[[call("main", 0, 1)]],
    )  # fmt: skip
    model, x = Model(tmp_path), row()
    for _ in range(3):
        assert np.array_equal(model.run(x)[0], 4 * x)


def test_a_view_is_a_value_at_the_same_place(kind: str, tmp_path: Path) -> None:
    values = [
        value("x", ROWS, "parameter", 0),
        value("second", ROW, "parameter", 0, ROW_BYTES),
        value("as_one", "int32[128]", "parameter", 0),
        value("y", ROW, "parameter", 1),
    ]
    main = graph([ROWS, ROW], values, [launch(0, 1, 3)])
    top = [value("x", ROWS, "arena"), value("y", ROW, "arena", 0, 512), value("flat", "int32[128]", "arena")]
    write(
        tmp_path, kind, arenas=[640], kernels=[("twice", ROW, ROW)], graphs={"main": main}, values=top,
        inputs=[0], outputs=[1, 2], steps=[[call("main", 0, 1)]],
    )  # fmt: skip
    x = rows()
    y, flat = Model(tmp_path).run(x)
    assert np.array_equal(y, 2 * x[1])
    assert np.array_equal(flat, x.reshape(-1))


def test_two_graphs_share_weights_and_names_share_storage(kind: str, tmp_path: Path) -> None:
    def add(weight: int, offset: int) -> Any:
        values = [
            value("x", ROW, "parameter"),
            value("w", ROW, "weight", weight, offset),
            value("y", ROW, "parameter", 1),
        ]
        return graph([ROW, ROW], values, [launch(0, 0, 1, 2)])

    table, other = rows(), row()
    top = [value("x", ROW, "arena"), value("y", ROW, "arena", 0, 128), value("z", ROW, "arena", 0, 256)]
    write(
        tmp_path, kind, arenas=[384], kernels=[("add", ROW, ROW, ROW)],
        graphs={"first": add(0, 3 * ROW_BYTES), "second": add(2, 0), "third": add(1, ROW_BYTES)},
        values=[*top, value("table", ROWS, "weight", 0)], inputs=[0], outputs=[2, 3],
        steps=[[call("first", 0, 1), call("second", 1, 2)], [call("third", 2, 2)]],
        weights={"table": table, "other": other}, names={"a": "table", "tied": "table", "other": "other"},
    )  # fmt: skip
    model, x = Model(tmp_path), row()
    z, whole = model.run(x)
    assert np.array_equal(z, x + table[3] + other + table[1])
    assert np.array_equal(whole, table)
    assert model.memory() == (384, 1, table.nbytes + other.nbytes, 384)


def test_nested_loops_move_their_arguments(kind: str, tmp_path: Path) -> None:
    # y[i, j] = x[i, j] + bias[j]; a stride that is left out is 0
    shape = "int32[2,3,32]"
    values = [value("x", shape, "parameter"), value("bias", "int32[3,32]", "weight"), value("y", shape, "parameter", 1)]
    inner = launch(0, [0, 384, 128], [1, 0, 128], [2, 384, 128])
    once = launch(0, 0, 1, 2)
    main = graph([shape, shape], values, [once, loop(2, loop(3, inner), launch(0, [0, 384], 1, [2, 384]))])
    top = [value("x", shape, "arena", 0), value("y", shape, "arena", 1)]
    bias, x = rows()[:3], np.stack([rows()[:3], rows()[:3]])
    write(
        tmp_path, kind, arenas=[768, 768], kernels=[("add", ROW, ROW, ROW)], graphs={"main": main}, values=top,
        inputs=[0], outputs=[1], steps=[[call("main", 0, 1)]], weights={"bias": bias},
    )  # fmt: skip
    assert np.array_equal(Model(tmp_path).run(x)[0], x + bias)


def test_copies_move_in_loops_too(kind: str, tmp_path: Path) -> None:
    # y[2 i] = x[i] through a temporary, y[2 i + 1] = 2 x[i]
    values = [
        value("x", ROW, "parameter", 0),
        value("temporary", ROW, "arena", 1, 128),
        value("even", ROW, "parameter", 1),
        value("odd", ROW, "parameter", 1, 128),
    ]
    body = copy([0, 128], 1), copy(1, [2, 256]), launch(0, 1, [3, 256])
    main = graph([ROWS, "int32[8,32]"], values, [loop(4, *body)])
    top = [value("x", ROWS, "arena", 0), value("y", "int32[8,32]", "arena", 1, 256)]
    write(
        tmp_path, kind, arenas=[512, 1280], kernels=[("twice", ROW, ROW)], graphs={"main": main}, values=top,
        inputs=[0], outputs=[1], steps=[[call("main", 0, 1)]],
    )  # fmt: skip
    x = rows()
    assert np.array_equal(Model(tmp_path).run(x)[0], np.stack([x, 2 * x], axis=1).reshape(8, 32))


def test_phases_carry_values_from_step_to_step(kind: str, tmp_path: Path) -> None:
    model, x = Model(doubling(tmp_path, kind, 5)), row()
    assert np.array_equal(model.run(x)[0], 64 * x)
    assert np.array_equal(model.run(x)[0], 64 * x)


def test_profile_counts_every_run_of_every_launch(kind: str, tmp_path: Path) -> None:
    model, x = Model(doubling(tmp_path, kind, 5)), row()
    model.run(x)
    assert [launch[3] for launch in model.profile()] == [0, 0]
    model.check(model.library.penstock_profile(model.handle, 1))
    model.run(x)
    model.run(x)
    launches = model.profile()
    assert [launch[:4] for launch in launches] == [("double", "twice_32", "y", 10), ("add", "add_32", "z", 2)]
    assert all(launch[4] > 0 for launch in launches)
    model.check(model.library.penstock_profile(model.handle, 0))
    model.run(x)
    assert model.profile() == launches
    model.check(model.library.penstock_profile(model.handle, 1))
    assert [launch[3:] for launch in model.profile()] == [(0, 0.0), (0, 0.0)]


def test_memory_and_tensors_are_those_of_the_plan(kind: str, tmp_path: Path) -> None:
    doubling(tmp_path, kind, 1)
    edit(tmp_path, lambda plan: plan.update(lower_bound=200))
    model = Model(tmp_path)
    assert model.memory() == (256, 2, 0, 200)
    assert model.tensors("input") == [("y", "int32", (32,), 128)]
    assert model.tensors("output") == [("z", "int32", (32,), 128)]
    assert model.device.startswith("cpu (" if kind == "llvm" else "opencl: ")


def test_empty_tensors_and_scalars_pass(kind: str, tmp_path: Path) -> None:
    top = [value("none", "float32[0,7]", "arena"), value("one", "int64[]", "arena")]
    write(tmp_path, kind, arenas=[64], graphs={}, values=top, inputs=[0, 1], outputs=[1, 0])
    one, none = Model(tmp_path).run(np.zeros((0, 7), np.float32), np.array(-7, np.int64))
    assert one == -7
    assert one.shape == ()
    assert none.shape == (0, 7)


@pytest.mark.parametrize("shift", [0, 8, 12])
def test_weights_are_read_wherever_they_lie_in_the_file(shift: int, tmp_path: Path) -> None:
    pad, table = np.zeros(shift, np.uint8), row()
    values = [value("x", ROW, "parameter"), value("w", ROW, "weight", 1), value("y", ROW, "parameter", 1)]
    main = graph([ROW, ROW], values, [launch(0, 0, 1, 2)])
    top = [value("x", ROW, "arena"), value("y", ROW, "arena", 0, 128)]
    write(
        tmp_path, arenas=[256], kernels=[("add", ROW, ROW, ROW)], graphs={"main": main}, values=top, inputs=[0],
        outputs=[1], steps=[[call("main", 0, 1)]], weights={"pad": pad, "table": table},
    )  # fmt: skip
    x = row()
    assert np.array_equal(Model(tmp_path).run(x)[0], x + table)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_kernels_share_their_work_among_threads(threads: int, tmp_path: Path) -> None:
    model, x = Model(doubling(tmp_path, "llvm", 200, "parallel_twice"), threads=threads), np.ones(32, np.int32)
    assert model.device == f"cpu ({threads} thread{'s' * (threads > 1)})"
    edit(tmp_path, lambda plan: plan["phases"][0]["steps"].__delitem__(slice(20, None)))
    shorter = Model(tmp_path, threads=threads)
    for _ in range(20):
        assert np.array_equal(shorter.run(x)[0], x << 21)
        assert not model.run(x)[0].any()  # 2^201 is 0 in 32 bits


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        ("fail", "kernel 'fail_32' failed: ValueError: this kernel always fails"),
        ("fail_silently", "kernel 'fail_silently_32' failed: no reason given"),
        ("fail_in_thread", "kernel 'fail_in_thread_32' failed"),
    ],
)
def test_a_kernel_that_fails_ends_the_run(kernel: str, reason: str, tmp_path: Path) -> None:
    model = Model(doubling(tmp_path, "llvm", 1, kernel), threads=3)
    for _ in range(2):
        with pytest.raises(RunnerError) as caught:
            model.run(row())
        assert caught.value.code == capi.FAILED
        assert reason in str(caught.value)


def test_wrong_arguments_are_refused(kind: str, tmp_path: Path) -> None:
    model = Model(doubling(tmp_path, kind, 1))
    library, handle = model.library, model.handle
    tensor, taken = capi.Tensor(), capi.Launch()
    null_input = (ctypes.c_void_p * 1)(None)
    for result, reason in (
        (lambda: library.penstock_input(handle, 1, tensor), "there is no tensor 1, only 1"),
        (lambda: library.penstock_output(handle, 2**63, tensor), f"there is no tensor {2**63}, only 1"),
        (lambda: library.penstock_launch_profile(handle, 2, taken), "there is no launch 2, only 2"),
        (lambda: library.penstock_input(None, 0, tensor), "model is a null pointer"),
        (lambda: library.penstock_input(handle, 0, None), "tensor is a null pointer"),
        (lambda: library.penstock_run(handle, None, None), "input 'y' is a null pointer"),
        (lambda: library.penstock_run(handle, null_input, None), "input 'y' is a null pointer"),
        (lambda: library.penstock_load(None, None, ctypes.c_void_p()), "artifact is a null pointer"),
        (lambda: library.penstock_load(b".", None, None), "model is a null pointer"),
    ):
        assert result() == capi.BAD_ARGUMENT
        assert library.penstock_error().decode() == reason
    assert library.penstock_input_count(None) == library.penstock_launch_count(None) == 0
    library.penstock_free(None)
    assert np.array_equal(model.run(np.ones(32, np.int32))[0], np.full(32, 4))


def test_an_output_that_nobody_wants_is_not_copied(kind: str, tmp_path: Path) -> None:
    model, x = Model(doubling(tmp_path, kind, 1)), row()
    inputs = (ctypes.c_void_p * 1)(x.ctypes.data)
    model.check(model.library.penstock_run(model.handle, inputs, (ctypes.c_void_p * 1)(None)))
    model.check(model.library.penstock_run(model.handle, inputs, None))


def test_more_threads_than_the_system_gives_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="threads") as caught:
        Model(doubling(tmp_path, "llvm", 1), threads=2**31 - 1)
    assert caught.value.code == capi.BAD_ARGUMENT


@pytest.mark.skipif("opencl" not in KINDS, reason="no OpenCL device")
def test_compiled_opencl_programs_are_kept_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    artifact, cache, x = doubling(tmp_path / "artifact", "opencl", 1), tmp_path / "cache", row()
    cache.mkdir()
    for content in (None, b"damaged", b""):
        for file in cache.iterdir():
            file.write_bytes(content or b"")
        assert np.array_equal(Model(artifact, cache=bytes(cache)).run(x)[0], 4 * x)
        sizes = [file.stat().st_size for file in cache.iterdir()]
        assert len(sizes) == 2
        assert min(sizes) > 64
    assert np.array_equal(Model(artifact, cache=bytes(tmp_path / "absent")).run(x)[0], 4 * x)


@pytest.mark.skipif("opencl" not in KINDS, reason="no OpenCL device")
def test_there_is_no_device_of_that_index(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="there is no OpenCL device 99, only") as caught:
        Model(doubling(tmp_path, "opencl", 1), device_index=99)
    assert caught.value.code == capi.BAD_ARGUMENT

from __future__ import annotations

from penstock.backends.plan.launches import Body, Kernel, Launch, Storage, Type, Value
from penstock.backends.plan.timeline import Timeline
from penstock.backends.targets import find_target
from penstock.passes.core.program import Plan, Signature, TensorSpec
from penstock.passes.core.shapes import dtype_named

ROW = Type("float32", (16,))


def timeline() -> Timeline:
    """The graph a → b, c → d: two values made of an input, then the output of both."""
    kernel = Kernel("k", "k", "", "opencl", (ROW, ROW), (1,), ())
    storages = [Storage("parameter", ROW.bytes, 0), *[Storage("local", ROW.bytes)] * 2, Storage("parameter", 64, 1)]
    values = [Value(name, ROW, index) for index, name in enumerate("abcd")]
    ops = [Launch(0, (0, 1), ("main", "b")), Launch(0, (0, 2), ("main", "c")), Launch(0, (1, 2, 3), ("main", "d"))]
    body = Body((ROW, ROW), 1, tuple(storages), tuple(values), tuple(ops))
    specs = [TensorSpec(name, ROW.shape, dtype_named("float32")) for name in "ad"]
    signature = Signature((specs[0],), (specs[1],), {}, {})
    return Timeline(
        [kernel], {"main": body}, Plan.single("main", ("a",), ("d",)), signature, find_target("llvm").limits
    )


def test_bytes_alive_at_each_moment() -> None:
    assert [live // ROW.bytes for live in timeline().live[:3]] == [2, 3, 3]


def test_crowded_launches_run_while_more_is_alive() -> None:
    found = timeline()
    assert [launch.made for launch in found.crowded(2 * ROW.bytes)] == [("main", "c"), ("main", "d")]
    assert not list(found.crowded(3 * ROW.bytes))

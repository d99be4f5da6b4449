from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.backends.plan.launches import Body, Kernel, Launch, Loop, Type, Work
from penstock.backends.quality import faults, launch_counts, share_of
from penstock.backends.targets import find_target

MALI = find_target("mali-g78")
TENSOR = Type("float32", (1024, 1024))
GOOD = Kernel(
    "product", "product", "", "opencl", (TENSOR, TENSOR, TENSOR), (2,), (), (32, 32, 1), (16, 4, 1),
    work=Work(flops=2**31, moved_bytes=3 * 2**22, loads=2**28, touched_bytes=2**30),
)  # fmt: skip


def test_a_tiled_product_passes() -> None:
    assert faults(GOOD, MALI) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"block": (1, 1, 1)}, "1 threads leave idle lanes in waves of 16"),
        ({"block": (64, 16, 1)}, "1024 threads in a work-group"),
        ({"local_memory_bytes": 20000}, "no room for a second work-group"),
        ({"grid": (1, 1, 1)}, "1 work-groups for 14 compute units"),
        ({"work": replace(GOOD.work, loads=2**31)}, "1.00 operations per element loaded"),
        ({"work": replace(GOOD.work, disorderly_bytes=2**28)}, "25% of the bytes"),
        ({"grid": (1024, 1024, 1), "work": replace(GOOD.work, loads=2**27)}, "a work-group per result"),
    ],
)
def test_what_an_expert_would_be_ashamed_of(change: dict[str, object], text: str) -> None:
    assert any(text in fault for fault in faults(replace(GOOD, **change), MALI))  # type: ignore[arg-type]


def test_a_small_tensor_need_not_fill_the_device() -> None:
    small = Type("float32", (16, 16))
    kernel = replace(GOOD, arguments=(small,) * 3, grid=(1, 1, 1), work=Work(flops=256, moved_bytes=3072, loads=512))
    assert faults(kernel, MALI) == ()


def test_shares_count_launches_in_loops() -> None:
    body = Body((), 0, (), (), (Launch(0, ()), Loop(3, (Launch(1, ()),))))
    counts = launch_counts({"main": body}, {"main": 2})
    assert counts == {0: 2, 1: 6}
    bad = replace(GOOD, name="bad", block=(1, 1, 1))
    share = share_of((GOOD, bad), counts, MALI)
    assert share.fraction == 2 / 8
    assert [name for name, _, _ in share.failures] == ["bad"]

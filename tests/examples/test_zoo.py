"""Every model of the zoo: its capture equals eager bit by bit, and its memory figures equal PyTorch's own storages."""

from __future__ import annotations

import pytest
import torch

from examples import zoo
from examples.zoo import ZOO
from penstock.frontends.torch_export import capture_module
from penstock.passes.analysis.cost import cost
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.shapes import FAKE_MODE
from tests.passes.analysis.graphs import measured_live_bytes

pytestmark = pytest.mark.models

MIB = 2**20


@pytest.mark.parametrize("name", ZOO)
def test_a_small_model(name: str) -> None:
    module, args = ZOO[name]()
    with torch.no_grad():
        expected = module(*args)
    assert expected.isfinite().all()
    assert expected.std() > 0.01
    program = capture_module(module, args)
    assert torch.equal(reference.run(program, args)[0], expected)
    assert [point.live_bytes for point in memory(program).timeline] == measured_live_bytes(program)


def test_factories_are_reproducible_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    (left, left_args), (right, right_args) = ZOO["vit"](), ZOO["vit"]()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(left_args[0], right_args[0])
    assert all(torch.equal(*pair) for pair in zip(left.parameters(), right.parameters(), strict=True))


# Weights, peak with fused and with materialised attention in MiB; TFLOP of one forward.
FULL_SIZE = {
    "svd_unet_full": (2908.0, 1653.8, 23310.1, 44.9),
    "animatediff_full": (2436.1, 801.8, 8513.8, 17.7),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_full_size_model_on_fake_tensors(name: str) -> None:
    with FAKE_MODE:
        module, args = getattr(zoo, name)()
    program = capture_module(module, args)
    fused, materialized = memory(program), memory(program, attention="materialized")
    mib = [fused.weight_bytes / MIB, fused.activation_bytes / MIB, materialized.activation_bytes / MIB]
    assert [*(round(figure, 1) for figure in mib), round(cost(program).total.flops / 1e12, 1)] == list(FULL_SIZE[name])

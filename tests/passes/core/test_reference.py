from __future__ import annotations

import weakref
from dataclasses import replace

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference
from penstock.passes.core.program import Program


def test_inputs_that_are_handed_over_die_after_their_last_use() -> None:
    program = capture_module(nn.Sequential(nn.ReLU(), nn.Tanh()), (torch.rand(3),))
    given = torch.rand(3)
    held = weakref.ref(given)
    alive: list[bool] = []
    inputs = [given]
    del given
    handed = (inputs.pop() for _ in range(1))
    reference.run(program, handed, lambda _graph, _node, _value: alive.append(held() is not None))
    assert alive == [True, False]


def test_a_second_run_gives_the_same() -> None:
    program = capture_module(nn.Linear(3, 2), (torch.rand(1, 3),))
    first, second = (reference.run(program, program.examples) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(reference.run(program, [torch.rand(1, 3)])[0], first[0])


def test_a_small_convolution_in_place_unfolds_nothing() -> None:
    model = nn.Conv3d(4, 4, 3, padding=1)
    program = capture_module(model, (torch.rand(1, 4, 4, 8, 8),))

    def kernels(program: Program) -> set[str]:
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            reference.run(program, program.examples)
        return {event.key for event in seen.key_averages()}

    assert any("slow_conv3d" in name for name in kernels(program))
    assert not any("slow_conv3d" in name for name in kernels(replace(program, in_place=True)))

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from penstock.backends.plan.launches import launches
from penstock.backends.plan.timeline import Timeline
from penstock.backends.targets import find_target
from penstock.backends.tvm.build import CompiledProgram, compile_program
from penstock.backends.tvm.lower import lower
from penstock.backends.tvm.pipeline import fused
from penstock.backends.tvm.standalone import load_compiled
from penstock.backends.tvm.target import tvm_target
from penstock.compilation import legalized
from penstock.frontends.torch_export import capture_module
from penstock.passes.analysis.memory import memory
from penstock.passes.core import reference
from penstock.passes.core.program import Program
from tests.backends.tvm.execute import Function

TARGET = find_target("llvm")


class MadeLate(nn.Module):
    """A sum that the concatenation at the end takes in, though what is made in between needs much memory."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 256), nn.Linear(256, 32)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        early = (x.cumsum(1) + x.cumsum(2)).transpose(1, 2)
        late = self.down(self.up(y).relu()).transpose(1, 2)
        return torch.cat([early, late], 2)


def late() -> Program:
    torch.manual_seed(0)
    return legalized(capture_module(MadeLate().eval(), (torch.randn(2, 64, 32), torch.randn(2, 64, 32))), TARGET)


class Gated(nn.Module):
    """Blocks alike, each with a gate that its sum waits for: while one kernel does both, all operands are there."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(32, 192), nn.Linear(96, 32)]) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for widen, narrow in self.blocks:
            gate, values = widen(x).transpose(1, 2).chunk(2, 1)
            total = values.cumsum(2) + values.cumsum(1) * 0.5
            x = x + narrow((total * nn.functional.silu(gate)).transpose(1, 2))
        return x


def most(program: Program, compiled: CompiledProgram) -> int:
    timeline = Timeline(compiled.kernels, compiled.bodies, program.plan, program.signature, TARGET.limits)
    return max(timeline.live)


def test_what_a_kernel_would_make_late_is_made_in_time(tmp_path: Path) -> None:
    program = late()
    free = compile_program(program, TARGET)
    room = most(program, free) - 1
    kept = compile_program(program, TARGET, room)
    assert most(program, kept) <= room
    assert len(kept.kernels) == len(free.kernels) + 1, "only the sum stands alone"
    runner = load_compiled(kept, program.plan, program.signature, program.weights, TARGET, tmp_path)
    (found,), (wanted,) = runner.run(program.examples), reference.run(program, program.examples)
    torch.testing.assert_close(found, wanted)


def test_kernels_that_are_alike_are_each_taken_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = legalized(capture_module(Gated().eval(), (torch.randn(2, 64, 32),)), TARGET)
    room = memory(replace(program, in_place=True)).activation_bytes
    free = compile_program(program, TARGET)
    kept = compile_program(program, TARGET, room)
    assert most(program, kept) <= room < most(program, free)
    runner = load_compiled(kept, program.plan, program.signature, program.weights, TARGET, tmp_path)
    (found,), (wanted,) = runner.run(program.examples), reference.run(program, program.examples)
    torch.testing.assert_close(found, wanted)


def test_kernels_that_are_alike_share_a_function_but_make_values_of_their_own() -> None:
    program = legalized(capture_module(Gated().eval(), (torch.randn(2, 64, 32),)), TARGET)
    built_for = tvm_target(TARGET)
    with built_for:
        neighbours = fused(lower(program).module, built_for)
    names = [name for made in neighbours.inside.values() for name in made if name is not None]
    assert len(set(names)) == len(names)
    gates = {name for name in names if name.startswith("silu")}
    assert gates == {node.name for node in program.graphs["main"].graph.nodes if node.name.startswith("silu")}
    assert len(gates) == 2


def test_a_view_is_made_where_it_is_needed() -> None:
    """A kernel runs where the first of its operators stands; one that begins with a view waits until it has to."""

    def late(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        view = x.transpose(1, 2)[:, 8:]
        product = y @ weight
        return product @ view.cos()

    examples = (torch.randn(2, 32, 40), torch.randn(2, 16, 24), torch.randn(24, 32))
    program = legalized(capture_module(Function(late), examples), TARGET)
    compiled = compile_program(program, TARGET)
    names = [compiled.kernels[launch.kernel].name for _, _, launch in launches(compiled.bodies["main"].ops)]
    assert len(names) == 3
    assert "cos" in names[1], names


def test_with_room_nothing_is_taken_apart() -> None:
    program = late()
    free = compile_program(program, TARGET)
    kept = compile_program(program, TARGET, most(program, free))
    assert [kernel.name for kernel in kept.kernels] == [kernel.name for kernel in free.kernels]


@pytest.mark.parametrize("room", [None, 0])
def test_what_cannot_be_kept_compiles_as_it_is(room: int | None) -> None:
    """Views have no memory that taking apart could give back, and one operator cannot be taken apart."""
    program = legalized(capture_module(Function(lambda x: x.transpose(0, 1).exp()), (torch.randn(8, 4),)), TARGET)
    assert len(compile_program(program, TARGET, room).kernels) == 1


def test_a_padded_part_of_an_upsampled_value(tmp_path: Path) -> None:
    """In one kernel TVM would simplify the positions of all of it to wrong ones."""

    def padded(x: torch.Tensor) -> torch.Tensor:
        part = nn.functional.interpolate(x, scale_factor=2.0)[:, :, 1:]
        return nn.functional.pad(nn.functional.pad(part, [0, 1]), [0, 0, 0, 1])

    program = legalized(capture_module(Function(padded), (torch.randn(1, 8, 4, 5),)), TARGET)
    runner = load_compiled(
        compile_program(program, TARGET), program.plan, program.signature, program.weights, TARGET, tmp_path
    )
    torch.testing.assert_close(runner.run(program.examples)[0], padded(*program.examples))

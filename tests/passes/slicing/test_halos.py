"""Parts that keep what the next one needs again, instead of making it again."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

import penstock
from penstock.passes.analysis.axes import WholeError
from penstock.passes.analysis.cost import cost
from penstock.passes.analysis.memory import memory
from penstock.passes.core import dialect, reference
from penstock.passes.core.errors import InvalidProgramError
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Piece, Program, SliceLoop
from penstock.passes.slicing.choose import planner_of
from penstock.passes.slicing.cuts import CutRecipe
from penstock.passes.slicing.parts import Parts, choices
from penstock.passes.slicing.recipe import GraphRecipe, followed
from penstock.passes.slicing.spans import kept_bytes, led, spans_of
from penstock.slicing import slicing_plan
from tests.passes.slicing.slices import assert_equal, captured, in_parts, realized


class Block(nn.Module):
    """A residual block whose norm looks at one pixel: what a skip carries waits two rows for what goes around it."""

    def __init__(self, channels: int, mode: str = "zeros") -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode=mode)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode=mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)
        return x + self.second(F.silu(self.first(F.silu(normed))))


class Upscaler(nn.Module):
    """Blocks, an upsampling between them, and a convolution in steps of two at the end."""

    def __init__(self, channels: int = 4, mode: str = "zeros", steps: int = 2) -> None:
        super().__init__()
        self.early, self.late = Block(channels, mode), Block(channels, mode)
        self.last = nn.Conv2d(channels, 2, 3, steps, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.late(F.interpolate(self.early(x), scale_factor=2.0)))


class Normed(nn.Module):
    """A norm over the whole image, and so a sweep, between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(2, 4, 5, padding=2), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.relu(self.norm(self.first(F.avg_pool2d(x, 3, 1)).tanh())))


class Stack(nn.Module):
    """Two norms over the whole image: the loop for the second makes all that the one for the first makes, and more."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)])
        self.norms = nn.ModuleList([nn.GroupNorm(2, 4) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, scale_factor=2.0)
        for conv, norm in zip(self.convs[:2], self.norms, strict=True):
            x = F.silu(norm(conv(x)))
        return self.convs[2](x)


class Pair(nn.Module):
    """Two results, one of which the other one needs more of than its own positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 5, padding=2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        near = self.first(x)
        return near, self.second(near.sigmoid())[:, :, 2:]


class Padded(nn.Module):
    """A padding that is an operator of its own: of thin parts, one makes nothing else of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.pad(F.interpolate(self.first(x), scale_factor=2.0), [0, 0, 1, 0]))


def loops(program: Program) -> list[SliceLoop]:
    return [op for op in program.plan.ops() if isinstance(op, SliceLoop)]


MODELS = {
    "blocks": (Upscaler(), (1, 4, 12, 7)),
    "replicate": (Upscaler(mode="replicate", steps=1), (1, 4, 9, 5)),
    "reflect": (Upscaler(mode="reflect", steps=1), (1, 4, 8, 5)),
    "sweep": (Normed(), (1, 2, 13, 11)),
    "two sweeps": (Stack(), (1, 4, 12, 5)),
    "two results": (Pair(), (1, 2, 12, 9)),
    "padded": (Padded(), (1, 2, 6, 9)),
}


@pytest.mark.parametrize("name", MODELS)
def test_all_numbers_of_parts_give_the_same_numbers(name: str) -> None:
    model, shape = MODELS[name]
    program = captured(model, torch.randn(shape))
    found = list(in_parts(program, keeps_halos=True))
    assert any(loop.kept for _, _, sliced in found for loop in loops(sliced))
    for _, _, sliced in found:
        assert_equal(program, sliced)


def test_parts_of_nothing_but_padding_are_refused_before_they_are_made() -> None:
    program = captured(Padded(), torch.randn(1, 2, 6, 9))
    planner = planner_of(program, "main", "fused")
    refused, taken, last = [], [], len(planner.line.nodes)
    for each in choices(11):
        try:
            group = planner.groups.given((0, last), 2, CutRecipe(parts=each.count, keeps_halos=True), [], None)
        except WholeError:
            refused.append(each.count)
            continue
        taken.append(each.count)
        parts = led(group.tiling, each)
        for index in range(parts.count):
            spans_of(group.tiling, parts, index, keeps=True)
    assert refused
    assert taken


def test_nothing_is_made_twice() -> None:
    program = captured(Upscaler(steps=1), torch.randn(1, 4, 12, 7))
    once = cost(program).total.flops
    twice = {(axis.dim, parts): cost(sliced).total.flops for axis, parts, sliced in in_parts(program)}
    for axis, parts, sliced in in_parts(program, keeps_halos=True):
        assert cost(sliced).total.flops == once < twice[axis.dim, parts]


def test_what_is_kept_follows_from_what_reads_it() -> None:
    block = Block(4)
    program = captured(nn.Sequential(block.first, block.second), torch.randn(1, 4, 64, 7))
    planner = planner_of(program, "main", "fused")
    group = planner.groups.given((0, 2), 2, CutRecipe(parts=8, keeps_halos=True), [], None)
    first, second = group.tiling.sliced
    assert group.cut.parts == led(group.tiling, Parts(64, 8)) == Parts(64, 8, lead=1)
    found = [spans_of(group.tiling, group.cut.parts, index, keeps=True) for index in range(group.cut.parts.count)]
    assert [each.made for each in found] == [
        {first: (0, 8), second: (0, 7)},  # the first is a row ahead
        *({first: (low, low + 8), second: (low - 1, low + 7)} for low in range(8, 64, 8)),
        {second: (63, 64)},
    ]
    assert found[0].taken == {}
    assert found[4].taken == {first: (30, 32)}
    assert found[4].kept == {first: (38, 40)}
    assert found[-1].taken == {first: (62, 64)}
    assert found[-1].kept == {}


def test_loops_that_begin_alike_have_parts_that_begin_alike() -> None:
    program = captured(Stack(), torch.randn(1, 4, 32, 5))
    planner = planner_of(program, "main", "fused")
    recipe = CutRecipe(parts=8, keeps_halos=True)
    group = planner.groups.given((0, len(planner.line.nodes)), 2, recipe, [recipe, recipe], None)
    loops = [group.tiling_of(place) for place in range(3)]
    made = [
        [spans_of(tiling, cut.parts, index, keeps=True).made for index in range(8)]
        for tiling, cut in zip(loops, group.cuts, strict=True)
    ]
    for fewer, more in itertools.pairwise(made):
        assert len(fewer[4]) < len(more[4])
        assert [{node: part[node] for node in fewer[4] if node in part} for part in more] == fewer


def test_a_lead_within_a_period_keeps_the_fewest_bytes() -> None:
    program = captured(Upscaler(steps=1), torch.randn(1, 4, 32, 5))
    planner = planner_of(program, "main", "fused")
    recipe = CutRecipe(parts=8, keeps_halos=True)
    group = planner.groups.given((0, len(planner.line.nodes)), 2, recipe, [], None)
    tiling, parts = group.tiling, group.cut.parts
    assert (tiling.period, parts) == (2, led(tiling, Parts(64, 8)))
    best, other = (
        kept_bytes(tiling, [spans_of(tiling, replace(parts, lead=parts.lead + more), 4, keeps=True)]) for more in (0, 1)
    )
    assert best < other


def decoder(blocks: int = 4, channels: int = 64) -> nn.Module:
    ends = nn.Conv2d(2, channels, 3, padding=1), nn.Conv2d(channels, 2, 3, padding=1)
    return nn.Sequential(ends[0], *(Block(channels) for _ in range(blocks)), ends[1])


def large_decoder() -> Program:
    with FakeTensorMode(allow_non_fake_inputs=True):
        return captured(decoder(), torch.randn(1, 2, 512, 512))


def test_a_decoder_in_a_tenth_does_no_work_twice() -> None:
    program = large_decoder()
    whole = memory(program).activation_bytes
    sliced = penstock.optimize(program, memory_budget=program.weight_bytes + whole // 10, pipeline=[])
    assert memory(sliced).activation_bytes <= whole // 10
    assert cost(sliced).total.flops == cost(program).total.flops
    assert any(loop.kept for loop in loops(sliced))
    assert "  keeps f32[1, 64, 2, 512] " in format_program(sliced)


def test_a_plan_says_whether_halos_are_kept() -> None:
    program = large_decoder()
    budget = program.weight_bytes + memory(program).activation_bytes // 10
    recipe = slicing_plan(program, str(budget)).graphs["main"]
    (group,) = recipe.groups
    assert group.cut.keeps_halos
    assert group.flops == 0
    kept = program_of(program, recipe)
    assert memory(kept).activation_bytes == recipe.bytes
    again = recipe.model_copy(update={"groups": (group.model_copy(update={"cut": CutRecipe(parts=group.cut.parts)}),)})
    assert cost(program_of(program, again)).total.flops > cost(kept).total.flops


def program_of(program: Program, recipe: GraphRecipe) -> Program:
    choice = followed(program, "main", recipe, "fused")
    return realized(program, choice.planner, choice.schedule)


def test_kept_memory_is_counted_all_through_the_loop() -> None:
    program = captured(decoder(channels=16), torch.randn(1, 2, 256, 16))
    planner = planner_of(program, "main", "fused")
    run = 0, len(planner.line.nodes)
    group = planner.groups.given(run, 2, CutRecipe(parts=32, keeps_halos=True), [], None)
    sliced = realized(program, planner, planner.scheduled((group,)))
    (loop,) = loops(sliced)
    assert group.cut.kept_bytes == sum(each.spec.nbytes for each in loop.kept)
    figures = memory(sliced)
    assert 0.9 * group.bytes <= figures.activation_bytes <= group.bytes
    names = {each.name for each in loop.kept}
    assert all(names <= {tensor.name for tensor in figures.live_at(point.index)} for point in figures.timeline)


def test_breaches() -> None:
    program = captured(decoder(1, 4), torch.randn(1, 2, 32, 4))
    sliced = next(sliced for _, parts, sliced in in_parts(program, keeps_halos=True) if parts == 4)
    (loop,) = loops(sliced)
    middle = max(loop.pieces, key=lambda piece: piece.count)

    def broken(piece: Piece) -> Program:
        pieces = tuple(piece if each is middle else each for each in loop.pieces)
        (phase,) = sliced.plan.phases
        return replace(
            sliced, plan=replace(sliced.plan, phases=(replace(phase, steps=((replace(loop, pieces=pieces),),)),))
        )

    for piece, message in (
        (replace(middle, takes=()), "before it is bound"),
        (replace(middle, keeps=middle.keeps[1:]), "keeps something else|not kept"),
        (replace(middle, keeps=(replace(middle.keeps[0], memory="other"), *middle.keeps[1:])), "in 'other'"),
        (replace(middle, takes=tuple(replace(each, shape=(1,)) for each in middle.takes)), r"a loop takes \(1,\)"),
        (replace(middle, returns=(None,), tiles=(None,)), "overlap or leave a gap"),
    ):
        with pytest.raises(InvalidProgramError, match=message):
            dialect.check(broken(piece), "the test")


def test_small_parts_of_three_dimensional_convolutions_have_the_numbers_of_the_whole() -> None:
    """PyTorch has another kernel for small ones."""
    program = captured(nn.Conv3d(4, 4, 3, padding=1), torch.randn(1, 4, 66, 96, 8))
    (whole,) = reference.run(program, program.examples)
    planner = planner_of(program, "main", "fused")
    for parts in (3, 33):
        group = planner.groups.given((0, 1), 2, CutRecipe(parts=parts), [], None)
        (found,) = reference.run(realized(program, planner, planner.scheduled((group,))), program.examples)
        assert torch.equal(found, whole)

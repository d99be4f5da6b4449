from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

import penstock
from examples.zoo import ZOO, Example, Positional, reproducible
from penstock.passes.analysis.memory import memory
from penstock.passes.core import dialect
from penstock.passes.core.context import Context
from penstock.passes.core.errors import BudgetError
from penstock.passes.core.printer import format_program
from penstock.passes.core.program import Program, SliceLoop
from penstock.passes.slicing.feature_slicing import FeatureSlicing
from penstock.passes.slicing.forms import prepared, restored
from penstock.passes.slicing.planner import Planner
from tests.passes.slicing.slices import assert_equal, captured, in_parts, realized


def sliced(program: Program, share: float, attention: str = "fused") -> Program:
    """The program in a share of its activations; 0 for the least."""
    figures = memory(program, attention)  # type: ignore[arg-type]
    budget = str(program.weight_bytes + int(share * figures.activation_bytes)) if share else "min"
    result = FeatureSlicing(budget, attention).run(program, Context())  # type: ignore[arg-type]
    dialect.check(result, "feature-slicing")
    return result


def loops(program: Program) -> list[SliceLoop]:
    return [op for op in program.plan.ops() if isinstance(op, SliceLoop)]


class Wide(nn.Module):
    """Two linear layers with much between them."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 512), nn.Linear(512, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class Temporal(nn.Module):
    """A block of a video model: group norm over all frames, a convolution in time, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 16), nn.Conv3d(16, 16, (3, 1, 1), padding=(1, 0, 0))
        self.wide, self.back = nn.Conv3d(16, 64, 1), nn.Conv3d(64, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.conv(nn.functional.silu(self.norm(x)))
        return x + self.back(self.wide(x).relu())


class Pyramid(nn.Module):
    """Down, up again, and a skip connection that is concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.up, self.last = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.first(x).relu()
        low = nn.functional.interpolate(self.down(skip).relu(), scale_factor=2.0)
        return self.last(torch.cat([self.up(low).relu(), skip], 1))


class Stencils(nn.Module):
    """Convolutions whose result is as large as their argument, which dies: it must not be written over too early."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.ModuleList(nn.Conv2d(4, 32, 3, padding=1) for _ in range(3))
        self.narrow = nn.ModuleList(nn.Conv2d(32, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for widen, narrow in zip(self.widen, self.narrow, strict=True):
            x = narrow(widen(torch.sigmoid(x) * 2).relu())
        return x


class Bordered(nn.Module):
    """Convolutions around which the border is repeated, as of causal video decoders, or mirrored."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Conv3d(4, 32, 3)
        self.narrow = nn.Conv3d(32, 4, 3, padding=(0, 1, 1), padding_mode="replicate")
        self.mirror = nn.Conv2d(12, 8, 5, padding=2, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.narrow(self.widen(nn.functional.pad(x, (1, 1, 1, 1, 2, 0), mode="replicate")).relu())
        return self.mirror(x.flatten(1, 2))


class Several(nn.Module):
    """Operators with several results, some of which are chosen later, and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Conv2d(4, 64, 3, padding=1), nn.Conv2d(64, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(64)
        self.norm.running_mean, self.norm.running_var = torch.rand(64), torch.rand(64) + 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, places = nn.functional.max_pool2d(x, 2, return_indices=True)
        x = self.narrow(self.norm(self.widen(values)).relu())
        spread, mean = torch.var_mean(x, 1, keepdim=True)
        return x * spread + mean + places


class Hourglass(nn.Module):
    """The argument and the result are larger than what lies next to them, and the peaks are there."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.stem(x).relu(), 4)
        return self.head(nn.functional.interpolate(x, scale_factor=4.0).sigmoid())


class Attention(nn.Module):
    """Self-attention whose scores are far larger than everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, 2))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(mixed)


class Styled(nn.Module):
    """Instance norms between convolutions, with a channel's values in each group."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1),
            nn.InstanceNorm2d(16, affine=True),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.InstanceNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


MODELS = {
    "styled": (Styled, (1, 4, 24, 20), "fused", 0.3),
    "wide": (Wide, (1, 64, 8), "fused", 0.1),
    "temporal": (Temporal, (1, 16, 4, 8, 8), "fused", 0.6),
    "pyramid": (Pyramid, (2, 3, 16, 16), "fused", 0.7),
    "stencils": (Stencils, (1, 4, 16, 16), "fused", 0.5),
    "bordered": (Bordered, (1, 4, 5, 12, 16), "fused", 0.5),
    "several": (Several, (1, 4, 24, 32), "fused", 0.4),
    "hourglass": (Hourglass, (1, 1, 64, 64), "fused", 0.8),
    "attention": (Attention, (1, 128, 16), "materialized", 0.35),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_budget_is_met_with_the_same_numbers(name: str) -> None:
    model, shape, attention, share = MODELS[name]
    program = captured(model(), torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    before = memory(program, attention)  # type: ignore[arg-type]
    result = sliced(program, share, attention)
    after = memory(result, attention)  # type: ignore[arg-type]
    assert after.activation_bytes <= share * before.activation_bytes
    assert after.weight_bytes == before.weight_bytes
    assert loops(result)
    assert_equal(program, result)


def test_the_plan_reads_as_the_documentation_says() -> None:
    program = captured(Wide(), torch.randn(1, 64, 8))
    text = format_program(sliced(program, 0.1))
    plan = text[: text.index("\n\n")].splitlines()[3:]
    assert plan[0] == "  slice (f32[1, 64, 8] output)"
    assert plan[1].startswith("    8 × with main_0_part.arg0 = args_0[dim 1 of 64: 8k … +8]") or "× with" in plan[1]
    assert plan[-1].lstrip().startswith("output[dim 1 of 64: ")
    assert "linear" in text
    assert "gelu" in text


def test_a_program_that_fits_stays_the_same_object() -> None:
    program = captured(Wide(), torch.randn(1, 64, 8))
    assert FeatureSlicing().run(program, Context()) is program
    assert FeatureSlicing("1GiB").run(program, Context()) is program
    assert FeatureSlicing().run(program, Context(memory_budget=memory(program).peak_bytes)) is program


def test_what_cannot_be_met_is_refused_with_the_floor() -> None:
    program = captured(Wide(), torch.randn(1, 64, 8))
    least = memory(sliced(program, 0))
    assert least.activation_bytes < 0.1 * memory(program).activation_bytes
    with pytest.raises(BudgetError, match=r"the memory budget of .* cannot be met"):
        penstock.optimize(program, memory_budget=program.weight_bytes + 100, pipeline="none")


def test_parts_are_cut_again_where_one_axis_is_not_enough() -> None:
    program = captured(nn.Sequential(Attention(), Attention()), torch.randn(4, 128, 16))
    result = sliced(program, 0, "materialized")
    assert memory(result, "materialized").activation_bytes < 0.11 * memory(program, "materialized").activation_bytes
    nested = [op for loop in loops(result) for piece in loop.pieces for op in piece.ops if isinstance(op, SliceLoop)]
    assert nested or max(piece.count for loop in loops(result) for piece in loop.pieces) > 4
    assert_equal(program, result)


def test_a_result_takes_over_the_memory_of_what_dies() -> None:
    program = captured(nn.Sequential(*(Wide() for _ in range(3))), torch.randn(1, 64, 8))
    result = sliced(program, 0)
    assert any(reused is not None for loop in loops(result) for reused in loop.reuses)
    assert_equal(program, result)
    kept = [tensor.clone() for tensor in program.examples]
    assert_equal(program, result)
    assert all(torch.equal(a, b) for a, b in zip(kept, program.examples, strict=True))


def test_planned_bytes_are_the_bytes_of_the_plan() -> None:
    program = captured(Pyramid(), torch.randn(2, 3, 16, 16))
    result = sliced(program, 0.7)
    estimate = Planner(program.graphs["main"]).plan(int(0.7 * memory(program).activation_bytes))
    assert estimate is not None
    assert memory(result).activation_bytes <= estimate.bytes <= 1.05 * memory(result).activation_bytes


class Rotary(nn.Module):
    """Positions from a table as large as one head."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(8, 64), nn.Linear(64, 8)
        self.register_buffer("table", torch.randn(1, 64, 1, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = self.query(x).unflatten(-1, (4, 16)) * self.get_buffer("table")
        return self.out(turned.flatten(2).sin())


def test_tables_are_taken_in_parts_and_take_no_memory() -> None:
    program = captured(Rotary(), torch.randn(1, 64, 8))
    result = sliced(program, 0.25)
    assert "table" in format_program(result)
    assert result.weight_bytes == program.weight_bytes
    (loop,) = loops(result)
    taken = {name: window for piece in loop.pieces for name, window in piece.args}
    assert len(taken) == 2
    assert all(window is not None for window in taken.values())
    assert_equal(program, result)
    io_bytes = 2 * 64 * 8 * 4
    assert memory(result).activation_bytes <= io_bytes + memory(program).activation_bytes // 8


def test_a_wrong_loop_is_illegal() -> None:
    program = sliced(captured(Wide(), torch.randn(1, 64, 8)), 0.1)
    (loop,) = loops(program)
    (piece,) = loop.pieces

    def broken(**changes: object) -> Program:
        changed = dataclasses.replace(loop, pieces=(dataclasses.replace(piece, **changes),))  # type: ignore[arg-type]
        phase = dataclasses.replace(program.plan.phases[0], steps=((changed,),))
        return dataclasses.replace(program, plan=dataclasses.replace(program.plan, phases=(phase,)))

    window = piece.tiles[0]
    for changes, message in (
        ({"count": piece.count + 1}, "does not fit"),
        ({"count": piece.count - 1}, "end at position"),
        ({"tiles": (dataclasses.replace(window, start=1),)}, "does not fit|overlap or leave a gap"),
        ({"tiles": (dataclasses.replace(window, step=0),)}, "overlap or leave a gap"),
        ({"returns": ("nothing",)}, "writes nothing into"),
    ):
        with pytest.raises(Exception, match=message):
            dialect.check(broken(**changes), "the test")


CUT_TO_HALF = ("svd_unet", "animatediff_unet", "unet2d")


@pytest.mark.models
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_at_five_budgets(name: str) -> None:
    program = penstock.optimize(penstock.capture(*ZOO[name]()))
    planner = Planner(prepared(program.graphs["main"]))
    for share in (0.9, 0.75, 0.6, 0.5, 0.4):
        budget = int(share * planner.unsliced_bytes)
        schedule = planner.plan(budget)
        assert schedule is not None or name not in CUT_TO_HALF or share < 0.5
        if schedule is not None:
            result = realized(program, planner, schedule)
            assert schedule.bytes <= budget
            assert memory(result).activation_bytes <= 1.05 * schedule.bytes
            assert_equal(program, result, 2e-5)


@reproducible
def sana_video() -> Example:
    """Sana's video transformer: one block of linear attention over 3 frames of 8 × 8 patches."""
    from diffusers import SanaVideoTransformer3DModel

    model = SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=16,
        sample_size=16,
        rope_max_seq_len=32,
    )
    inputs = torch.randn(1, 4, 3, 16, 16), torch.randn(1, 6, 16), torch.tensor([5.0])
    return Positional(model, "hidden_states", "encoder_hidden_states", "timestep"), inputs


@pytest.mark.models
@pytest.mark.parametrize("factory", [ZOO["dc_autoencoder"], sana_video], ids=["dc_autoencoder", "sana_video"])
def test_the_least_is_below_every_budget_that_is_met(factory: Callable[[], Example]) -> None:
    """The least of the first needs more than was planned, of the second parts are cut twice again to need less."""
    program = penstock.optimize(penstock.capture(*factory()))
    third = program.weight_bytes + int(0.35 * memory(program).activation_bytes)
    met, least = (memory(FeatureSlicing(budget).run(program, Context())).peak_bytes for budget in (str(third), "min"))
    assert least <= 1.05 * met <= 1.05 * third


class OwnAttention(nn.Module):
    """Attention of values to themselves, permuted, which are added to the result as well."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        heads = x.reshape(1, -1, 4, 16).transpose(1, 2)
        seen = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        x = x + seen.transpose(1, 2).reshape(x.shape)
        return self.down(nn.functional.gelu(x) * x)


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0])
def test_a_value_that_every_part_looks_into_is_not_overwritten(share: float) -> None:
    program = captured(OwnAttention(), torch.rand(1, 256, 16))
    found = sliced(program, share)
    assert_equal(program, found)
    assert memory(found).activation_bytes < memory(program).activation_bytes


def test_parts_of_attention_make_the_views_of_keys_and_values_themselves() -> None:
    found = sliced(captured(OwnAttention(), torch.rand(1, 256, 16)), 0)
    parts = [graph for graph in found.graphs.values() if "scaled_dot_product" in str(graph.graph)]
    assert parts
    for part in parts:
        (attention,) = [node for node in part.graph.nodes if "scaled_dot_product" in str(node.target)]
        assert all(operand.op == "call_function" for operand in attention.args[:3])


class PaddedBehind(nn.Module):
    """A convolution that halves, over values that are padded at their end only, as in image encoders."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.pad(self.first(x).sigmoid(), (0, 1, 0, 1))).relu()


class Causal(nn.Module):
    """Queries that see the keys before them, with fewer heads of keys where `groups` is above 1."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.query, self.keys, self.out = nn.Linear(8, 64), nn.Linear(8, 128 // groups), nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.query(x).unflatten(2, (4, 16)).transpose(1, 2)
        key, value = (each.unflatten(2, (-1, 16)).transpose(1, 2) for each in self.keys(x).chunk(2, 2))
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=self.groups > 1)
        return x + self.out(seen.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    ("model", "shape"),
    [(PaddedBehind(), (1, 3, 16, 16)), (Causal(1), (2, 32, 8)), (Causal(2), (2, 32, 8))],
    ids=["padded_behind", "causal", "causal_grouped"],
)
def test_every_number_of_parts_along_every_axis_gives_the_same_numbers(
    model: nn.Module, shape: tuple[int, ...]
) -> None:
    program = captured(model, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    axes = set()
    for axis, _, result in in_parts(program):
        assert_equal(program, result)
        axes.add(axis.dim)
    assert {1, 2} & axes


def test_causal_attention_is_cut_along_its_queries_by_one_graph_for_all_parts() -> None:
    program = captured(Causal(1), torch.randn(1, 256, 8))
    result = sliced(program, 0.3, "materialized")
    assert memory(result, "materialized").activation_bytes <= 0.3 * memory(program, "materialized").activation_bytes
    assert len(result.graphs) <= 4
    assert_equal(program, result)


def test_causal_attention_that_runs_whole_stays_as_it_was() -> None:
    module = prepared(captured(Causal(1), torch.randn(1, 32, 8)).graphs["main"])
    targets = [str(node.target) for node in restored(module).graph.nodes]
    assert "penstock.causal_attention.default" in [str(node.target) for node in module.graph.nodes]
    assert "penstock.causal_attention.default" not in targets
    assert not any("arange" in target for target in targets)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_no_value_is_larger_than_the_device_allocates_at_once(share: float) -> None:
    program = captured(nn.Sequential(Wide(), Wide()), torch.randn(1, 64, 8))
    largest = int(share * memory(program).largest_bytes)
    result = FeatureSlicing().run(program, Context(largest_allocation=largest))
    assert memory(result).largest_bytes <= largest < memory(program).largest_bytes
    assert loops(result)
    assert_equal(program, result)


def test_a_limit_that_nothing_exceeds_changes_nothing() -> None:
    program = captured(Wide(), torch.randn(1, 64, 8))
    assert FeatureSlicing().run(program, Context(largest_allocation=memory(program).largest_bytes)) is program


def test_what_is_too_large_as_an_input_stays() -> None:
    program = captured(Wide(), torch.randn(1, 64, 8))
    assert not loops(FeatureSlicing().run(program, Context(largest_allocation=64)))


def test_wide_padding_stays_one_operator() -> None:
    program = captured(lambda x: nn.functional.pad(x, (100, 100), mode="reflect").relu(), torch.randn(1, 4, 128))
    targets = [node.target for node in prepared(program.graphs["main"]).graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.aten.reflection_pad1d.default, torch.ops.aten.relu.default]
    assert_equal(program, sliced(program, 0))

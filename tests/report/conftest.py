"""What the tests of reports share: a small model, a pass that changes it, and the report on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.fx import Node

from penstock.frontends.torch_export import capture_module
from penstock.passes.core.base import Pass, Replacement, RewritePass
from penstock.passes.core.context import Context
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.program import Program
from penstock.passes.core.rewriter import Emitter
from penstock.report import History, Report, build_report

aten = torch.ops.aten


class Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.to_qkv(x).chunk(3, dim=-1)
        return x + self.out(torch.nn.functional.scaled_dot_product_attention(query, key, value))


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(8), Block(8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.relu(block(x))
        return x


@dataclass(frozen=True)
class ReluAsClamp(RewritePass):
    """Write relu as a clamp."""

    operators = (aten.relu.default,)

    def rewrite(self, node: Node, emit: Emitter) -> Replacement:
        return emit(aten.clamp_min.default, node.args[0], 0)


@dataclass(frozen=True)
class LeaveAlone(Pass):
    """Decline everything."""

    def run(self, program: Program, context: Context) -> Program:
        context.decline(self.name(), program.graphs["main"].graph.output_node().args[0][0], "it is fine <as> it is")
        return program


@pytest.fixture(scope="session")
def captured() -> Program:
    torch.manual_seed(0)
    return capture_module(Model(), (torch.randn(2, 16, 8),))


@pytest.fixture
def passes() -> tuple[Pass, ...]:
    return (ReluAsClamp(), LeaveAlone())


@pytest.fixture
def make_report(passes: tuple[Pass, ...]) -> Callable[..., Report]:
    """`make_report(program, **options)`: the report on running `passes`."""

    def make_report(program: Program, **options: object) -> Report:
        history, context = History(), Context()
        final = Pipeline(passes, (history,)).run(program, context)
        return build_report(program, final, history.records, declined=context.declined, **options)

    return make_report

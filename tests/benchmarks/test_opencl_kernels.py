from __future__ import annotations

import torch
from torch import nn

from benchmarks.opencl_kernels import Row, geometric_mean, operators, program_of, summary
from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference


def test_each_operator_becomes_a_graph_of_its_own() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU())
    program = capture_module(net.eval(), (torch.randn(2, 8),))
    known: set[str] = set()
    found = list(operators(program, known).values())
    assert len(found) == 2, "equal shapes count once"
    assert not operators(program, known)
    single = program_of(found, program)
    assert set(single.weights) == {"0.weight", "0.bias"}
    assert [tuple(result.shape) for result in reference.run(single, single.examples)] == [(2, 8), (2, 8)]


def test_the_mean_is_geometric() -> None:
    rows = [Row("linear", "2×8", "net", "zoo", 1.0, ratio, 0.1) for ratio in (1.0, 4.0)]
    assert geometric_mean(rows) == 2.0
    assert "2.00 ×" in summary(rows)

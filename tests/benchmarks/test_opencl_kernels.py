from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.limit import Limit
from benchmarks.opencl_cases import THEIRS, Case, read_index, write_index
from benchmarks.opencl_kernels import Row, geometric_mean, limit_of, measure, result_name, summary
from benchmarks.opencl_operators import compile_case, operators, program_of
from penstock.backends.targets import find_target
from penstock.frontends.torch_export import capture_module
from penstock.passes.core import reference

LIMIT = Limit(1e9, 1e9)


def linear_case(cases: Path, name: str) -> Case:
    """A linear layer of random weights, compiled."""
    program = capture_module(nn.Linear(8, 16).eval(), (torch.randn(4, 8),))
    (node,) = operators(program, set()).values()
    about = {"folder": name, "model": "net", "size": "zoo"}
    case = compile_case(node, program, find_target("opencl"), cases, about)
    assert case is not None
    return case


def test_a_case_is_measured_from_its_folder(tmp_path: Path) -> None:
    write_index(tmp_path, find_target("opencl"), [linear_case(tmp_path, "one")])
    target, (case,) = read_index(tmp_path)
    assert target == find_target("opencl")
    row = measure(case, tmp_path, 1, LIMIT)
    assert (row.operator, row.shapes, row.model, row.size) == ("linear", "4×8 16×8 16", "net", "zoo")
    assert row.ratio > 0
    least = max(case.flops, case.moved_bytes) / 1e9
    assert row.of_limit == pytest.approx(1e6 * least / row.microseconds)


def test_results_that_differ_are_told(tmp_path: Path) -> None:
    case = linear_case(tmp_path, "one")
    linear_case(tmp_path, "other")
    shutil.rmtree(tmp_path / "one" / THEIRS)
    (tmp_path / "other" / THEIRS).rename(tmp_path / "one" / THEIRS)
    with pytest.raises(AssertionError, match="not close"):
        measure(case, tmp_path, 1, LIMIT)


def test_a_view_is_no_case(tmp_path: Path) -> None:
    program = capture_module(nn.Flatten(0), (torch.randn(4, 8),))
    (node,) = [node for graph in program.graphs.values() for node in graph.graph.nodes if node.op == "call_function"]
    about = {"folder": "one", "model": "net", "size": "zoo"}
    assert compile_case(node, program, find_target("opencl"), tmp_path, about) is None


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


def test_peaks_are_those_given_or_the_target_s() -> None:
    target = find_target("nvidia-h200")
    assert limit_of(target, None, None) == Limit(66900e9, 4800e9)
    assert limit_of(target, 2.0, None) == Limit(2e9, 4800e9)


def test_results_of_devices_are_kept_apart() -> None:
    assert result_name(find_target("opencl")) == "opencl_kernels"
    assert result_name(find_target("nvidia-h200")) == "opencl_kernels_nvidia-h200"

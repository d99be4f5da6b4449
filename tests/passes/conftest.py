"""What the tests of passes share: capture a module, run passes on it, check the result against eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from penstock.frontends.torch_export import capture_module
from penstock.passes.core import dialect, reference
from penstock.passes.core.base import Pass
from penstock.passes.core.context import Context
from penstock.passes.core.instruments import Verify
from penstock.passes.core.pipeline import Pipeline
from penstock.passes.core.printer import format_graph, op_name
from penstock.passes.core.program import Program
from penstock.passes.core.structure import leaves_of
from penstock.passes.core.verify import compare
from tests.passes.analysis.graphs import GraphBuilder

TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-10,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
    torch.complex64: 1e-5,
}


class _Function(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.forward = function  # its parameters name the graph's inputs


@pytest.fixture
def capture() -> Callable[..., Program]:
    """`capture(module_or_function, args)`: the captured Program."""

    def capture(model: Callable[..., Any], args: Sequence[Any]) -> Program:
        module = model if isinstance(model, torch.nn.Module) else _Function(model)
        return capture_module(module, args)

    return capture


@pytest.fixture
def run_pass(capture: Callable[..., Program]) -> Callable[..., tuple[Program, Program]]:
    """`run_pass(model, args, *passes, context=None)`: the Programs before and after, checked.

    The model is a module, a plain function of tensors, or a Program (then `args` are its inputs). Every exact pass is
    verified as it runs; at the end the dialect holds, the outputs equal those of the Program before it (unless a lossy
    pass changed something), and a second run of the passes on the result changes nothing more.
    """

    def run_pass(
        model: Callable[..., Any] | Program,
        args: Sequence[Any],
        *passes: Pass,
        context: Context | None = None,
        tolerance: float | None = None,
        idempotent: bool = True,
    ) -> tuple[Program, Program]:
        before = model if isinstance(model, Program) else capture(model, args)
        verify = Verify()
        after = Pipeline(passes, (verify,)).run(before, context)
        dialect.check(after, "the test's passes")
        if not verify.losses:
            inputs = leaves_of(tuple(args))
            expected, actual = reference.run(before, inputs), reference.run(after, inputs)
            for spec, left, right in zip(after.signature.outputs, expected, actual, strict=True):
                assert (spec.shape, spec.dtype) == (tuple(right.shape), right.dtype)
                difference = compare(spec.name, left, right, tolerance or TOLERANCE.get(left.dtype, 0.0))
                assert difference.ok, str(difference)
        if idempotent:
            assert Pipeline(passes).run(after) is after
        return before, after

    return run_pass


@pytest.fixture
def assert_listing() -> Callable[[Program, str], None]:
    """`assert_listing(program, text)`: the graph ``main`` reads like `text`; the width of gaps does not count."""

    def normal(text: str) -> str:
        return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())

    def assert_listing(program: Program, expected: str) -> None:
        assert normal(format_graph(program.graphs["main"])) == normal(expected)

    return assert_listing


@pytest.fixture
def op_names() -> Callable[[Program], list[str]]:
    """`op_names(program)`: the operators of the graph ``main`` in order, as the printer writes them."""
    return lambda program: [op_name(node) for node in program.graphs["main"].graph.nodes if node.op == "call_function"]


@pytest.fixture
def build() -> GraphBuilder:
    """Builds small graphs node by node."""
    return GraphBuilder()

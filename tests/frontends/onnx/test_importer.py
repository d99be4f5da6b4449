"""What is settled when a graph is imported: constants, shapes, branches, functions and sequences."""

from __future__ import annotations

import torch
from onnx import parser

from penstock.frontends.onnx import capture_onnx
from penstock.frontends.onnx.importer import LARGEST_FOLDED
from penstock.passes.core import reference
from penstock.passes.core.printer import op_name
from penstock.passes.core.program import Program


def capture(text: str, opset: int = 20) -> Program:
    return capture_onnx(parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "local": 1]> {text}'))


def operators(program: Program) -> list[str]:
    return [op_name(node) for node in program.graphs["main"].graph.nodes if node.op == "call_function"]


def run(program: Program, *inputs: torch.Tensor) -> torch.Tensor:
    return reference.run(program, inputs)[0]


def test_shape_arithmetic_leaves_no_trace() -> None:
    program = capture("""
        g (float[2, 3, 4] x) => (float[2, 12] y) {
            shape = Shape(x)
            zero = Constant <value_int: int = 0> ()
            batch = Gather(shape, zero)
            axes = Constant <value_ints: ints = [0]> ()
            first = Unsqueeze(batch, axes)
            rest = Constant <value_ints: ints = [-1]> ()
            target = Concat <axis: int = 0> (first, rest)
            y = Reshape(x, target)
        }
    """)
    assert operators(program) == ["view"]
    x = torch.randn(2, 3, 4)
    assert torch.equal(run(program, x), x.reshape(2, 12))


def test_a_dtype_alone_is_no_dependence() -> None:
    program = capture("""
        g (float[2, 3] x) => (float[2, 3] y) {
            two = Constant <value_int: int = 2> ()
            factor = CastLike(two, x)
            y = Mul(x, factor)
        }
    """)
    assert operators(program) == ["mul"]
    assert program.weights["factor"].dtype == torch.float32


def test_a_weight_is_not_folded() -> None:
    program = capture("""
        g (float[1, 2] x) => (float[1, 3] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> {
            t = Transpose(w)
            y = MatMul(x, t)
        }
    """)
    assert operators(program) == ["permute", "matmul"]
    assert list(program.weights) == ["w"]


def test_a_large_constant_stays_in_the_graph() -> None:
    size = LARGEST_FOLDED + 1
    program = capture(f"""
        g (float[{size}] x) => (float[{size}] y) {{
            shape = Shape(x)
            zeros = ConstantOfShape(shape)
            y = Sub(zeros, x)
        }}
    """)
    assert operators(program) == ["full", "sub"]
    assert program.weight_bytes == 0


def test_a_known_condition_takes_its_branch() -> None:
    program = capture("""
        g (float[2, 3] x) => (float[2, 3] y) {
            rank = Size(x)
            six = Constant <value_int: int = 6> ()
            yes = Equal(rank, six)
            y = If (yes) <
                then_branch = a () => (float[2, 3] p) { p = Neg(x) },
                else_branch = b () => (float[2, 3] q) { q = LSTM(x, x, x) }
            >
        }
    """)
    assert operators(program) == ["neg"]


def test_local_functions_are_inlined() -> None:
    program = capture("""
        g (float[3] x) => (float[3] y) { y = local.twice <factor: float = 3.0> (x) }
        <domain: "local", opset_import: ["": 20]>
        twice <factor> (a) => (c) { f = Constant <value_float: float = @factor> ()  b = Mul(a, f)  c = Mul(b, f) }
    """)
    assert run(program, torch.ones(3)).tolist() == [9.0] * 3


def test_an_operator_that_onnx_defines_by_others_keeps_its_default_attributes() -> None:
    program = capture("g (float[2, 3, 2, 2] x) => (float[2, 3, 2, 2] y) { y = MeanVarianceNormalization(x) }", opset=13)
    x = torch.randn(2, 3, 2, 2)
    mean, deviation = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(run(program, x), (x - mean) / deviation, rtol=1e-5, atol=1e-6)


def test_sequences_vanish() -> None:
    program = capture("""
        g (float[5, 2] x) => (float[2, 4, 1] y, int64 count) {
            two = Constant <value_int: int = 2> ()
            parts = SplitToSequence <axis: int = 0> (x, two)
            zero = Constant <value_int: int = 0> ()
            one = Constant <value_int: int = 1> ()
            a = SequenceAt(parts, zero)
            b = SequenceAt(parts, one)
            pair = SequenceConstruct(b, a)
            triple = SequenceInsert(pair, a)
            again = SequenceErase(triple, zero)
            joined = ConcatFromSequence <axis: int = 1, new_axis: int = 1> (again)
            shape = Constant <value_ints: ints = [2, 4, 1]> ()
            y = Reshape(joined, shape)
            count = SequenceLength(parts)
        }
    """)
    x = torch.arange(10.0).reshape(5, 2)
    y, count = reference.run(program, (x,))
    assert torch.equal(y, torch.stack([x[:2], x[:2]], 1).reshape(2, 4, 1))
    assert count.item() == 3


def test_splitting_into_single_slices_drops_the_axis() -> None:
    program = capture("""
        g (float[2, 3] x) => (float[3] y) {
            parts = SplitToSequence <axis: int = 0, keepdims: int = 0> (x)
            last = Constant <value_int: int = -1> ()
            y = SequenceAt(parts, last)
        }
    """)
    x = torch.randn(2, 3)
    assert torch.equal(run(program, x), x[1])


def test_known_indices_become_static_selections() -> None:
    program = capture("""
        g (float[2, 5] x) => (float[2] last, float[2, 2] middle, float[2, 2] ends) <
            int64 m = {-1}, int64[2] run = {1, 2}, int64[2] pair = {0, -1}
        > {
            last = Gather <axis: int = 1> (x, m)
            middle = Gather <axis: int = 1> (x, run)
            ends = Gather <axis: int = 1> (x, pair)
        }
    """)
    x = torch.randn(2, 5)
    made = [name.split(".")[0] for name in operators(program) if name != "clone"]  # torch copies a module's constants
    assert made == ["select", "slice", "index"]
    for result, expected in zip(reference.run(program, (x,)), (x[:, -1], x[:, 1:3], x[:, [0, 4]]), strict=True):
        assert torch.equal(result, expected)


def test_the_long_name_of_the_onnx_domain() -> None:
    program = capture_onnx(
        parser.parse_model(
            '<ir_version: 10, opset_import: ["ai.onnx": 20]> g (float[3] x) => (float[3] y) { y = Neg(x) }'
        )
    )
    assert operators(program) == ["neg"]

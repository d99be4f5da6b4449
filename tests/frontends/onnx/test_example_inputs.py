from __future__ import annotations

import torch
from onnx import parser

from penstock.frontends.onnx import capture_onnx
from penstock.frontends.onnx.example_inputs import example_inputs
from penstock.frontends.onnx.read import read_onnx
from penstock.passes.core import reference

TOKENS = """
    <ir_version: 10, opset_import: ["": 20]>
    g (int64[1, 64] ids, int64[1, 64] mask, int32 step, bool[4] keep, float16[3] noise) => (float[1, 64, 2] y)
    <
        float[7, 2] small = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
        float[9, 1] large = {0, 1, 2, 3, 4, 5, 6, 7, 8}
    >
    {
        flat = Cast <to: int = 6> (ids)
        a = Gather(small, flat)
        b = Gather(large, ids)
        y = Add(a, b)
    }
"""


def test_indices_stay_inside_the_smallest_table_and_masks_are_open() -> None:
    ids, mask, step, keep, noise = example_inputs(read_onnx(parser.parse_model(TOKENS)), None)
    assert ids.dtype == torch.int64
    assert int(ids.min()) >= 0
    assert int(ids.max()) == 6
    assert mask.unique().tolist() == [1]
    assert (step.item(), step.dtype) == (1, torch.int32)
    assert keep.tolist() == [True] * 4
    assert noise.dtype == torch.float16
    assert noise.unique().numel() == 3


def test_examples_are_the_same_every_time() -> None:
    proto = parser.parse_model(TOKENS)
    for first, second in zip(capture_onnx(proto).examples, capture_onnx(proto).examples, strict=True):
        assert torch.equal(first, second)


def test_the_program_runs_on_its_examples() -> None:
    program = capture_onnx(parser.parse_model(TOKENS))
    (y,) = reference.run(program, program.examples)
    assert torch.isfinite(y).all()

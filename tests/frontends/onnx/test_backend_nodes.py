"""ONNX's own node tests as the oracle: every case of every supported operator."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import defs, numpy_helper
from torch import Tensor

from penstock.frontends.onnx import capture_onnx
from penstock.frontends.onnx.importer import import_graph
from penstock.frontends.onnx.inline import inline_functions
from penstock.frontends.onnx.read import read_onnx
from penstock.frontends.onnx.registry import OLDEST_OPSET, find_operator, supported_operators
from penstock.frontends.onnx.tensors import dtype_of_element_type, tensor_of_array
from penstock.passes.core import reference
from penstock.passes.core.errors import CaptureError, UnsupportedOperatorError

INLINED = (
    "AffineGrid", "BlackmanWindow", "CenterCropPad", "HammingWindow", "HannWindow", "MeanVarianceNormalization",
    "NegativeLogLikelihoodLoss", "RotaryEmbedding", "SoftmaxCrossEntropyLoss", "SwiGLU",
)  # fmt: skip
"""Operators that the table lacks and that ONNX defines by others."""

REFUSED = {
    r"test_batchnorm_.*_training_mode": "training",
    r"test_training_dropout(?!_zero_ratio).*": "training",
    r"test_col2im_5d": "torch folds over two axes",
    r"test_maxpool_with_argmax_2d_precomputed_strides": "column-major indices",
    r"test_nonzero_example": "the size of the result depends on data",
    r"test_reduce_(max|min)_empty_set.*": "torch has no largest element of nothing",
}

NOT_TESTED_BY_ONNX = ("BitCast", "GlobalLpPool")

WITH_CONSTANTS_OF_THEIR_OWN = (
    "Attention", "AveragePool", "Compress", "GatherND", "Gather", "OneHot", "Pad", "Resize", "ScatterND", "Shape",
)  # fmt: skip

Case = Any


@cache
def _cases() -> dict[str, list[Case]]:
    """The cases whose graph is one node, by operator; other cases test what other parts of ONNX do."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    found: dict[str, list[Case]] = {}
    for case in tests:
        node, *more = case.model.graph.node
        if not more and not node.domain and _is_recent(case) and _torch_computes(case):
            found.setdefault(node.op_type, []).append(case)
    return found


def _is_recent(case: Case) -> bool:
    """Whether the operator still is as in the case at the oldest opset read; the case is raised to that opset."""
    (node,), opset = case.model.graph.node, case.model.opset_import[0]
    newest = max(OLDEST_OPSET, opset.version)
    if defs.has(node.op_type, newest) and defs.get_schema(node.op_type, newest).since_version <= opset.version:
        opset.version = newest
    return opset.version >= OLDEST_OPSET


def _torch_computes(case: Case) -> bool:
    """Torch has no arithmetic on wide unsigned integers, and no strings, sequences or types of 4 and 8 bits."""
    for value in (*case.model.graph.input, *case.model.graph.output):
        dtype = dtype_of_element_type(value.type.tensor_type.elem_type)
        if dtype in (None, torch.uint16, torch.uint32, torch.uint64):
            return False
    return True


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _with_constants(model: onnx.ModelProto, inputs: Sequence[np.ndarray]) -> tuple[onnx.ModelProto, list[Tensor]]:
    """The model with the inputs that must be known at capture (shapes, axes) as initializers, and the other inputs."""
    (node,), opset = model.graph.node, model.opset_import[0].version
    operator = find_operator(node.domain, node.op_type, opset)
    parameters = list(operator.parameters) if operator is not None else []
    known = set()
    for position, name in enumerate(node.input):
        if position < len(parameters) and Tensor not in parameters[position].forms:
            known.add(name)
    changed, rest = onnx.ModelProto(), []
    changed.CopyFrom(model)
    del changed.graph.input[:]
    for value, array in zip(model.graph.input, inputs, strict=True):
        if value.name in known or (operator is None and array.dtype.kind == "i" and array.ndim <= 1):
            changed.graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            changed.graph.input.append(value)
            rest.append(tensor_of_array(array))
    return changed, rest


def _agree(name: str, expected: np.ndarray, actual: Tensor, case: Case) -> None:
    wanted = tensor_of_array(expected)
    assert wanted.dtype == actual.dtype, f"{name}: {actual.dtype}"
    coarse = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(wanted.dtype, 0.0)
    torch.testing.assert_close(
        actual,
        wanted,
        rtol=max(case.rtol, coarse),
        atol=max(case.atol, 1e-6, coarse),
        equal_nan=True,
        msg=lambda m: f"{name}: {m}",
    )


def _runs(case: Case) -> Iterator[tuple[onnx.ModelProto, list[Tensor], list[np.ndarray]]]:
    for inputs, outputs in case.data_sets:
        yield *_with_constants(case.model, [_array(value) for value in inputs]), [_array(value) for value in outputs]


@pytest.mark.parametrize("operator", [*supported_operators(), *INLINED])
def test_an_operator_agrees_with_onnx(operator: str) -> None:
    cases = _cases().get(operator, [])
    if operator not in NOT_TESTED_BY_ONNX:
        assert cases, f"ONNX has no node test for {operator}"
    for case in cases:
        refused = next((pattern for pattern in REFUSED if re.fullmatch(pattern, case.name)), None)
        for model, inputs, outputs in _runs(case):
            file = read_onnx(model)
            file = replace(file, model=inline_functions(file.model))
            if refused:
                with pytest.raises((UnsupportedOperatorError, CaptureError)):
                    import_graph(file, inputs)
                continue
            with torch.no_grad():
                results = import_graph(file, inputs)(*inputs)
            results = results if isinstance(results, tuple) else (results,)
            for expected, actual in zip(outputs, results, strict=True):
                _agree(case.name, expected, actual, case)


@pytest.mark.parametrize("operator", WITH_CONSTANTS_OF_THEIR_OWN)
def test_an_operator_that_makes_constants_survives_capture(operator: str) -> None:
    for case in _cases()[operator][:1]:
        for model, inputs, outputs in _runs(case):
            results = reference.run(capture_onnx(model, inputs), inputs)
            for expected, actual in zip(outputs, results, strict=True):
                _agree(case.name, expected, actual, case)

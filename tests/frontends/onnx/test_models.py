"""Small real architectures through `torch.onnx.export` and back, against the models themselves."""

from __future__ import annotations

import pytest
import torch

from examples.zoo import ZOO
from penstock.frontends.onnx import capture_onnx
from penstock.passes.core import reference
from penstock.passes.core.source import module_of

pytestmark = pytest.mark.models


@pytest.mark.parametrize(
    ("name", "opset", "optimize"),
    [("vit", 23, True), ("llama", 20, False), ("svd_vae_decoder", 18, True), ("wan_dit", 20, True)],
)
def test_a_model_survives_export_and_capture(name: str, opset: int, optimize: bool) -> None:
    model, args = ZOO[name]()
    exported = torch.onnx.export(model, args, dynamo=True, opset_version=opset, optimize=optimize, verbose=False)
    assert exported is not None
    program = capture_onnx(exported.model_proto)
    with torch.no_grad():
        expected = model(*args)
    torch.testing.assert_close(reference.run(program, args)[0], expected, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(reference.run(program, program.examples)[0]).all()
    modules = {module_of(node) for node in program.graphs["main"].graph.nodes if node.op == "call_function"}
    assert {path for path in modules if path} <= {path for path, _ in model.named_modules()}
    assert len(modules) > 10

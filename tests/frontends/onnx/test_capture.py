from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import torch
from onnx import parser
from torch import nn

from penstock.frontends.onnx import capture_onnx
from penstock.passes.core import reference
from penstock.passes.core.printer import format_graph
from penstock.passes.core.program import Program
from penstock.passes.core.source import module_of, source_of


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([nn.Linear(8, 8, bias=False), nn.Linear(8, 4)])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv(image).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = torch.relu(block(x))
        return x


@dataclass(frozen=True)
class Exported:
    model: Net
    image: torch.Tensor
    path: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    model, image = Net().eval(), torch.randn(1, 3, 4, 4)
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    torch.onnx.export(model, (image,), path, dynamo=True, opset_version=20, optimize=False, verbose=False)
    return Exported(model, image, path)


def test_a_torch_export_keeps_its_names_modules_and_lines(exported: Exported) -> None:
    model, image = exported.model, exported.image
    program = capture_onnx(exported.path, (image,))
    assert set(program.weights) == set(model.state_dict())
    assert [spec.name for spec in program.signature.inputs] == ["image"]
    assert program.provenance == ("captured net.onnx",)
    conv = next(node for node in program.graphs["main"].graph.nodes if node.name == "node_conv2d")
    assert module_of(conv) == "conv"
    assert source_of(conv).startswith("onnx/test_capture.py:")
    assert source_of(conv).endswith(" in forward")
    assert any(module_of(node) == "blocks.1" for node in program.graphs["main"].graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(reference.run(program, (image,))[0], model(image), rtol=1e-5, atol=1e-6)


def test_a_hand_written_graph_reads_like_its_onnx_text() -> None:
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["": 20]>
        g (float[2, 4] x) => (float[2, 6] "scores:0") <float[6, 4] "head/kernel" = {"""
        + ", ".join(["0.5"] * 24)
        + """}>
        {
            [mix] mixed = Gemm <transB: int = 1> (x, "head/kernel")
            [fold] "scores:0" = Softmax <axis: int = -1> (mixed)
        }
    """
    )
    program = capture_onnx(model)
    assert format_graph(program.graphs["main"]) == (
        "graph main\n"
        "  w    head_kernel              f32[6, 4]\n"
        "  in   x                        f32[2, 4]\n"
        "  mix = linear(x, head_kernel)  f32[2, 6]\n"
        "  fold = softmax.int(mix, -1)   f32[2, 6]\n"
        "  return (fold)\n"
    )
    assert [spec.name for spec in program.signature.outputs] == ["scores_0"]
    assert program.plan.phases[0].steps[0][0].results == ("scores_0",)
    (fold,) = (node for node in program.graphs["main"].graph.nodes if node.name == "fold")
    assert source_of(fold) == "onnx/g:2 in fold"


def test_the_older_exporter_leaves_module_paths_in_node_names() -> None:
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 17]>
        g (float[2, 4] x) => (float[2, 4] y) { ["/encoder/layers.0/act/Relu"] y = Relu(x) }
    """)
    (node,) = (
        capture_onnx(model).graphs["main"].graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
    )
    assert module_of(node) == "encoder.layers.0.act"
    assert node.name == "_encoder_layers_0_act_Relu"


def test_several_outputs_an_unused_input_and_an_output_that_is_an_input() -> None:
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]>
        g (float[3] input, float[2] spare, float[3] other) => (float[3] a, float[3] b, float[3] other)
        { a = Neg(input)  b = Add(a, other) }
    """)
    program = capture_onnx(model)
    assert [spec.name for spec in program.signature.inputs] == ["input", "spare", "other"]
    assert [spec.name for spec in program.signature.outputs] == ["a", "b", "other"]
    args = (torch.ones(3), torch.zeros(2), torch.full((3,), 5.0))
    a, b, other = reference.run(program, args)
    assert (a.tolist(), b.tolist(), other.tolist()) == ([-1.0] * 3, [4.0] * 3, [5.0] * 3)


def test_a_file_in_memory_and_on_disk_give_the_same_program(exported: Exported) -> None:
    on_disk, in_memory = capture_onnx(exported.path), capture_onnx(onnx.load(exported.path))
    assert weights_and_text(on_disk) == weights_and_text(in_memory)


def weights_and_text(program: Program) -> tuple[list[str], list[str]]:
    graph = program.graphs["main"]
    return list(program.weights), [line.split("#")[0] for line in format_graph(graph).splitlines()]


def test_weights_in_a_file_of_their_own(exported: Exported, tmp_path: Path) -> None:
    proto = onnx.load(exported.path)
    path = tmp_path / "outside" / "net.onnx"
    path.parent.mkdir()
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert (path.parent / "net.data").exists()
    program = capture_onnx(path, (exported.image,))
    torch.testing.assert_close(program.weights["conv.weight"], exported.model.conv.weight)


def test_captured_parameters_train_and_statistics_do_not() -> None:
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]>
        g (float[1, 2, 3] x) => (float[1, 2, 3] y)
        <float[2] scale = {1, 2}, float[2] bias = {0, 1}, float[2] mean = {0, 0}, float[2] variance = {1, 1}>
        { y = BatchNormalization(x, scale, bias, mean, variance) }
    """)
    module = capture_onnx(model).as_module()
    trained = {name: isinstance(getattr(module, name), nn.Parameter) for name in ("scale", "bias", "mean", "variance")}
    assert trained == {"scale": True, "bias": True, "mean": False, "variance": False}


def test_weight_names_that_torch_cannot_hold_are_made_legal_and_stay_apart() -> None:
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]>
        g (float[2] x) => (float[2] y)
        <float[2] "a" = {1, 2}, float[2] "a.b" = {3, 4}, float[2] "a:b" = {5, 6}, float[2] "forward" = {7, 8}>
        { p = Add(x, "a")  q = Add(p, "a.b")  r = Add(q, "a:b")  y = Add(r, "forward") }
    """)
    program = capture_onnx(model)
    assert {name: tensor.tolist() for name, tensor in program.weights.items()} == {
        "a": [1.0, 2.0], "a_.b": [3.0, 4.0], "a_b": [5.0, 6.0], "forward_": [7.0, 8.0]
    }  # fmt: skip
    assert reference.run(program, (torch.zeros(2),))[0].tolist() == [16.0, 20.0]

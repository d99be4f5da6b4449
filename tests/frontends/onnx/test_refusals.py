"""Every way in which a file is refused: the error, its text and its exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper, parser

from penstock.frontends.onnx import capture_onnx
from penstock.passes.core.errors import CaptureError, UnsupportedOperatorError, UsageError


def model(text: str, opset: int = 20) -> ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "com.microsoft": 1]> {text}')


RELU = "g (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }"


def test_all_unsupported_operators_are_named_at_once() -> None:
    proto = model("""
        g (float[2, 3] x, float[1, 4, 4] w) => (float[2, 3] z) {
            [first] a = LSTM <hidden_size: int = 1> (x, w, w)
            [second] b = LSTM <hidden_size: int = 1> (a, w, w)
            [noise] n = RandomNormalLike(x)
            [fused] f = com.microsoft.FusedMatMul(n, b)
            [pool] z = MaxUnpool <kernel_shape: ints = [2]> (f, f)
        }
    """)
    proto.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "/home/me/net/rnn.py", line 7, in forward\n    return lstm(x)'
    )
    with pytest.raises(UnsupportedOperatorError) as caught:
        capture_onnx(proto)
    assert caught.value.exit_code == 3
    assert str(caught.value).splitlines() == [
        "the ONNX front end (g) does not support 4 operator(s) of this model:",
        "  ai.onnx.LSTM  × 2  (first, second)",
        "      from net/rnn.py:7 in forward",
        "      from onnx/g:2 in second",
        "      way out: export with torch.onnx.export(dynamo=True, opset_version=20), which writes simpler operators",
        "  ai.onnx.MaxUnpool  × 1  (pool)",
        "      from onnx/g:5 in pool",
        "      way out: the nearest supported operator is MaxPool; export with torch.onnx.export(dynamo=True, "
        "opset_version=20), which writes simpler operators",
        "  ai.onnx.RandomNormalLike  × 1  (noise)",
        "      from onnx/g:3 in noise",
        "      way out: make the noise an input of the model",
        "  com.microsoft.FusedMatMul  × 1  (fused)",
        "      from onnx/g:4 in fused",
        "      way out: operators of 'com.microsoft' are not ONNX's own; export the model without the tool that put "
        "them in",
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("y = Reshape(x, s)", "its input 'shape' (s int64[2]) depends on the model's inputs"),
        ("c = Cast <to: int = 9> (k) y = If (c) <then_branch = a () => (float[2, 3] p) {p = Neg(x)}, "
         "else_branch = b () => (float[2, 3] q) {q = Abs(x)}>", "its condition depends on the model's inputs"),
        ("y = Cast <to: int = 17> (x)", "it makes FLOAT8E4M3FN, which torch does not have"),
        ("n = NonZero(x) y = Cast <to: int = 1> (n)", "the size of its result depends on the model's inputs"),
        ("a = SequenceConstruct(x) y = Relu(a)", "its input 'a' is a sequence"),
        ("y = SequenceAt(x, k)", "its input 'x' is not a sequence that is made in the graph"),
        ("q = SequenceConstruct(x) y = SequenceAt(q, k)", "its position depends on the model's inputs"),
        ("q = SplitToSequence(x, s) y = SequenceAt(q, k)", "its sizes depend on the model's inputs"),
        ("t = Constant <value_int: int = 1> () b = Cast <to: int = 9> (t) y = Dropout(x, , b)", "training_mode"),
        ("y, m = MaxPool <kernel_shape: ints = [3], auto_pad: string = \"SAME_LOWER\", strides: ints = [2]> (w)",
         "its indices need row-major order"),
        ("y = Conv(v, v)", "it slides over 4 axes; supported are 1 to 3"),
    ],
)  # fmt: skip
def test_an_unsupported_form_says_what_would_be_supported(body: str, says: str) -> None:
    inputs = "float[2, 3] x, int64[2] s, int64 k, float[1, 2, 4] w, float[1, 1, 2, 2, 2, 2] v"
    with pytest.raises(UnsupportedOperatorError, match="does not support 1 operator") as caught:
        capture_onnx(model(f"g ({inputs}) => (float[2, 3] y) {{ {body} }}"))
    assert says in str(caught.value)


def test_shapes_that_do_not_fit_name_the_node_and_what_it_got() -> None:
    proto = model("g (float[2, 3] x, float[4, 5] w) => (float[2, 5] y) { [product] y = MatMul(x, w) }")
    with pytest.raises(CaptureError) as caught:
        capture_onnx(proto)
    message = str(caught.value)
    assert message.startswith(
        "g: node 'product' (MatMul, onnx/g:1 in product) does not take (x float32[2, 3], w float32[4, 5]): "
    )
    assert "\n" not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.onnx as an ONNX file: .*No such file") as caught:
        capture_onnx(tmp_path / "nowhere.onnx")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", "graph { näh }".encode("latin-1")])
def test_a_file_that_is_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.onnx") as caught:
        capture_onnx(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    proto = model(RELU)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((64, 64), np.float32), "w"))
    data = proto.SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UsageError, match=r"cut\.onnx") as caught:
        capture_onnx(path)
    assert "\n" not in str(caught.value)


def test_a_graph_that_breaks_onnx_rules() -> None:
    proto = model(RELU)
    proto.graph.node[0].input[0] = "nothing"
    with pytest.raises(UsageError, match="g is not a valid ONNX model: Nodes in a graph must be topologically sorted"):
        capture_onnx(proto)


def test_data_that_does_not_fill_its_shape() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Add(x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    proto.graph.initializer[0].raw_data = bytes(4)
    with pytest.raises(UsageError, match=r"g.* w|g.*'w'") as caught:
        capture_onnx(proto)
    assert "\n" not in str(caught.value)


def test_missing_and_truncated_external_data(tmp_path: Path) -> None:
    proto = model("g (float[8] x) => (float[8] y) { y = Add(x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "w"))
    path, data = tmp_path / "net.onnx", tmp_path / "net.data"
    onnx.save(proto, path, save_as_external_data=True, location=data.name, size_threshold=0)
    data.write_bytes(data.read_bytes()[:5])
    with pytest.raises(UsageError, match=r"net\.onnx.*'w'"):
        capture_onnx(path)
    data.unlink()
    with pytest.raises(UsageError, match=r"net\.onnx.*net\.data|net\.onnx.*'w'"):
        capture_onnx(path)


def test_external_data_stays_inside_the_models_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 32)
    folder = tmp_path / "model"
    folder.mkdir()
    proto = model("g (float[8] x) => (float[8] y) { y = Add(x, w) }")
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[8])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    proto.graph.initializer.append(tensor)
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UsageError, match=r"net\.onnx"):
        capture_onnx(folder / "net.onnx")


def test_an_old_opset_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="g is of opset 11, and opsets from 13 on are read; convert it with"):
        capture_onnx(model(RELU, opset=11))


def test_types_that_torch_lacks() -> None:
    with pytest.raises(UsageError, match="g: input 'x' holds STRING, which torch lacks"):
        capture_onnx(model("g (string[2] x) => (string[2] y) { y = Identity(x) }"))
    proto = model("g (float[2] x) => (float[2] y) { y = CastLike(x, w) }")
    proto.graph.initializer.append(helper.make_tensor("w", onnx.TensorProto.FLOAT8E4M3FN, [1], b"\0", raw=True))
    with pytest.raises(UsageError, match="g: tensor 'w' holds FLOAT8E4M3FN, which torch does not have"):
        capture_onnx(proto)


def test_dynamic_sizes_need_arguments() -> None:
    proto = model("g (float[batch, 3] x, float[N, M] w) => (float[batch, 3] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match=r"inputs of dynamic size: 'x' \[batch, 3\], 'w' \[N, M\]; pass example arg"):
        capture_onnx(proto)
    program = capture_onnx(proto, (torch.ones(5, 3), torch.ones(1, 1)))
    assert program.signature.outputs[0].shape == (5, 3)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), r"g takes 1 input\(s\) \(x\), got 0"),
        ((torch.ones(2, 4),), r"input 'x' is torch.float32 \[2, 3\], got torch.float32 \[2, 4\]"),
        ((torch.ones(2, 3, 1),), r"input 'x' is torch.float32 \[2, 3\], got torch.float32 \[2, 3, 1\]"),
        ((torch.ones(2, 3).half(),), r"input 'x' is torch.float32 \[2, 3\], got torch.float16 \[2, 3\]"),
    ],
)
def test_arguments_must_fit(args: tuple[torch.Tensor, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        capture_onnx(model(RELU), args)

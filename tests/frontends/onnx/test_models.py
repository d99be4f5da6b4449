"""Small real architectures through `torch.onnx.export` and back, against the models themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penstock.frontends.onnx import capture_onnx
from penstock.passes.core import reference
from penstock.passes.core.source import module_of

pytestmark = pytest.mark.models


class Positional(nn.Module):
    """A model of diffusers or transformers that takes tensors by position and returns one."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], **fixed: Any) -> None:
        super().__init__()
        self.model, self.names, self.fixed = model, names, fixed

    def forward(self, *tensors: Tensor) -> Tensor:
        result: Tensor = self.model(**dict(zip(self.names, tensors, strict=True)), **self.fixed, return_dict=False)[0]
        return result


def vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    return Positional(ViTForImageClassification(config), ("pixel_values",)), (torch.randn(1, 3, 32, 32),)


def llama() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, use_cache=False,
    )  # fmt: skip
    return Positional(LlamaForCausalLM(config), ("input_ids",)), (torch.randint(0, 32, (1, 6)),)


def unet() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, attention_head_dim=4,
        norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    args = (torch.randn(1, 4, 8, 8), torch.tensor(5), torch.randn(1, 3, 8))
    return Positional(model, ("sample", "timestep", "encoder_hidden_states")), args


def video_transformer() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=16, ffn_dim=16, num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    args = (torch.randn(1, 4, 2, 4, 4), torch.tensor([5.0]), torch.randn(1, 5, 8))
    return Positional(model, ("hidden_states", "timestep", "encoder_hidden_states")), args


@pytest.mark.parametrize(
    ("build", "opset", "optimize"),
    [(vit, 23, True), (llama, 20, False), (unet, 18, True), (video_transformer, 20, True)],
)
def test_a_model_survives_export_and_capture(
    build: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]], opset: int, optimize: bool
) -> None:
    torch.manual_seed(0)
    model, args = build()
    model.eval()
    exported = torch.onnx.export(model, args, dynamo=True, opset_version=opset, optimize=optimize, verbose=False)
    assert exported is not None
    program = capture_onnx(exported.model_proto, args)
    with torch.no_grad():
        expected = model(*args)
    torch.testing.assert_close(reference.run(program, args)[0], expected, rtol=1e-4, atol=1e-5)
    nodes = program.graphs["main"].graph.find_nodes(op="call_function", target=torch.ops.aten.matmul.default)
    assert all(module_of(node).startswith("model.") for node in nodes)
    assert torch.isfinite(reference.run(program, capture_onnx(exported.model_proto).examples)[0]).all()

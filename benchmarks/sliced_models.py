"""Small versions of models that slicing is measured on: the published structure and proportions, few channels.

Values are so large that a model's activations take more memory than its code, and its operators more time than calling
them; one run takes a second at most.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.attention_processor import AttnProcessor

import penstock
from examples.zoo import ZOO, Decoder, Example, Positional, reproducible
from penstock.passes.cleanup.fuse_attention import FuseAttention
from penstock.passes.core.program import Program
from penstock.passes.presets import MOBILE


def _larger(name: str, *shape: int) -> Callable[[], Example]:
    """A model of the zoo with a first argument of this shape."""

    def build() -> Example:
        module, (_, *args) = ZOO[name]()
        return module, (torch.randn(shape, generator=torch.Generator().manual_seed(0)), *args)

    return build


def _with_scores(name: str, *shape: int) -> Callable[[], Example]:
    """A model of the zoo on a first argument of this shape, whose attention stores its scores."""
    build = _larger(name, *shape)

    def stored() -> Example:
        module, args = build()
        module.model.set_attn_processor(AttnProcessor())
        return module, args

    return stored


@reproducible
def svd_vae_decoder() -> Example:
    """Stable Video Diffusion's temporal decoder: 8 frames of 64 × 64 pixels."""
    from diffusers import AutoencoderKLTemporalDecoder

    model = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4, sample_size=32
    )
    return Decoder(model, num_frames=8), (torch.randn(8, 4, 32, 32),)


@reproducible
def ltx_vae_decoder() -> Example:
    """LTX-Video's decoder: 161 frames of 64 × 32 pixels, as many as published."""
    from diffusers import AutoencoderKLLTXVideo

    model = AutoencoderKLLTXVideo(
        latent_channels=16,
        block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16, 16),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(4, 3, 3, 3, 4),
        patch_size=1,
    )
    return Decoder(model), (torch.randn(1, 16, 21, 8, 4),)


@reproducible
def wan_dit() -> Example:
    """Wan's transformer: 2 blocks over 2048 tokens, feed-forward layers six times as wide as the rest."""
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=16,
        out_channels=16,
        text_dim=64,
        freq_dim=64,
        ffn_dim=768,
        num_layers=2,
        rope_max_seq_len=64,
    )
    args = (torch.randn(1, 16, 8, 32, 32), torch.tensor([5.0]), torch.randn(1, 16, 64))
    return Positional(model, "hidden_states", "timestep", "encoder_hidden_states"), args


SMALL: dict[str, Callable[[], Example]] = {
    "svd_unet": _larger("svd_unet", 1, 4, 8, 48, 48),
    "svd_unet_large": _larger("svd_unet", 1, 4, 8, 144, 144),  # several seconds
    "animatediff_unet": _larger("animatediff_unet", 1, 4, 4, 64, 64),
    "unet2d": _larger("unet2d", 2, 4, 64, 64),
    "svd_vae_decoder": svd_vae_decoder,
    "ltx_vae_decoder": ltx_vae_decoder,
    "wan_dit": wan_dit,
    "svd_unet_scores": _with_scores("svd_unet", 1, 4, 8, 24, 24),
    "animatediff_unet_scores": _with_scores("animatediff_unet", 1, 4, 4, 32, 32),
    "unet2d_scores": _with_scores("unet2d", 2, 4, 48, 48),
}


def captured(name: str) -> Program:
    """One of the models, ready to be sliced; attention is left as it is written."""
    passes = [each for each in MOBILE if not isinstance(each, FuseAttention)]
    return penstock.optimize(penstock.capture(*SMALL[name]()), target="llvm", pipeline=passes)

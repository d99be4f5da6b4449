"""Small instances of real architectures with random weights: what the tests compile and the benchmarks run.

Each factory returns a module and its example arguments, so the command line takes it as it is::

    penstock inspect examples/zoo.py:svd_unet

The structure is the real one (levels, attention, up- and down-sampling, norms); widths and depths are as small as it
allows. Those that end in `_full` are the published sizes, in float16 by default, to be made under a fake mode::

    with FakeTensorMode(allow_non_fake_inputs=True):
        module, args = svd_unet_full()
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec

import torch
from torch import Tensor, nn

Example = tuple[nn.Module, tuple[Tensor, ...]]
P = ParamSpec("P")

ZOO: dict[str, Callable[[], Example]] = {}
"""The reduced models by name."""


class Positional(nn.Module):
    """Calls a model of diffusers or transformers by position, and returns the first tensor of its result.

    Args:
        model: called with keyword arguments.
        names: the keywords of the tensors, in order.
        constants: keyword arguments that are fixed.
    """

    def __init__(self, model: nn.Module, *names: str, **constants: int) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.constants = constants

    def forward(self, *tensors: Tensor) -> Tensor:
        """The first result of the model."""
        named = dict(zip(self.names, tensors, strict=True))
        result: Tensor = self.model(**named, **self.constants, return_dict=False)[0]
        return result


class Decoder(nn.Module):
    """The decoder of an autoencoder: latents to images or frames."""

    def __init__(self, autoencoder: nn.Module, **constants: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.constants = constants

    def forward(self, latents: Tensor) -> Tensor:
        """Pixels."""
        pixels: Tensor = self.autoencoder.decode(latents, **self.constants, return_dict=False)[0]
        return pixels


class RoundTrip(nn.Module):
    """Encode and decode."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, image: Tensor) -> Tensor:
        """The image again."""
        latents = self.autoencoder.encode(image, return_dict=False)[0]
        pixels: Tensor = self.autoencoder.decode(latents, return_dict=False)[0]
        return pixels


def reproducible(factory: Callable[P, Example]) -> Callable[P, Example]:
    """Give a factory a seed of its own, and leave no weight at the zero or one that it starts from."""

    @functools.wraps(factory)
    def build(*args: P.args, **kwargs: P.kwargs) -> Example:
        with torch.random.fork_rng(devices=()), torch.no_grad():
            torch.manual_seed(0)
            module, inputs = factory(*args, **kwargs)
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
            return module.eval(), inputs

    return build


def zoo(factory: Callable[[], Example]) -> Callable[[], Example]:
    """Put a factory into `ZOO`."""
    ZOO[factory.__name__] = reproducible(factory)
    return ZOO[factory.__name__]


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make floating-point tensors in `dtype`. Under a fake mode a module cannot be converted afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


# Video and image UNets


def _svd(model: nn.Module, frames: int, height: int, width: int, text: int) -> Example:
    names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
    args = (
        torch.randn(1, frames, 8, height, width),
        torch.tensor(5.0),
        torch.randn(1, 1, text),
        torch.randn(1, 3),
    )
    return Positional(model, *names), args


@zoo
def svd_unet() -> Example:
    """Stable Video Diffusion's UNet: 2 levels of spatial and temporal attention, 4 frames of 8 × 8 latents."""
    from diffusers import UNetSpatioTemporalConditionModel

    model = UNetSpatioTemporalConditionModel(
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        num_attention_heads=(2, 4),
        layers_per_block=1,
        cross_attention_dim=32,
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        num_frames=4,
        sample_size=8,
    )
    return _svd(model, frames=4, height=8, width=8, text=32)


@reproducible
def svd_unet_full(dtype: torch.dtype = torch.float16) -> Example:
    """Stable Video Diffusion's UNet as published: 14 frames of 576 × 1024 pixels, float16."""
    from diffusers import UNetSpatioTemporalConditionModel

    with default_dtype(dtype):
        return _svd(UNetSpatioTemporalConditionModel(), frames=14, height=72, width=128, text=1024)


def _animatediff(model: nn.Module, frames: int, size: int, tokens: int, text: int) -> Example:
    args = (torch.randn(1, 4, frames, size, size), torch.tensor(5), torch.randn(frames, tokens, text))
    return Positional(model, "sample", "timestep", "encoder_hidden_states"), args


@zoo
def animatediff_unet() -> Example:
    """AnimateDiff's UNet: 2 levels of attention with motion modules, 4 frames of 8 × 8 latents."""
    from diffusers import UNetMotionModel

    model = UNetMotionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
        up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        norm_num_groups=8,
        use_motion_mid_block=False,
    )
    return _animatediff(model, frames=4, size=8, tokens=5, text=32)


@reproducible
def animatediff_full(dtype: torch.dtype = torch.float16) -> Example:
    """AnimateDiff on Stable Diffusion 1.5 as published: 16 frames of 512 × 512 pixels, float16."""
    from diffusers import UNetMotionModel

    with default_dtype(dtype):
        model = UNetMotionModel(sample_size=64, cross_attention_dim=768, use_motion_mid_block=False)
        return _animatediff(model, frames=16, size=64, tokens=77, text=768)


@zoo
def unet2d() -> Example:
    """Stable Diffusion's UNet: 2 levels of attention, a batch of 2 for guidance, 8 × 8 latents."""
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    args = (torch.randn(2, 4, 8, 8), torch.tensor(5), torch.randn(2, 5, 32))
    return Positional(model, "sample", "timestep", "encoder_hidden_states"), args


# Autoencoders


@zoo
def svd_vae_decoder() -> Example:
    """Stable Video Diffusion's temporal decoder: 3 frames of 4 × 4 latents."""
    from diffusers import AutoencoderKLTemporalDecoder

    model = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4, sample_size=8
    )
    return Decoder(model, num_frames=3), (torch.randn(3, 4, 4, 4),)


@reproducible
def svd_vae_decoder_full(dtype: torch.dtype = torch.float16) -> Example:
    """Stable Video Diffusion's temporal decoder as published: 14 frames of 576 × 1024 pixels, float16."""
    from diffusers import AutoencoderKLTemporalDecoder

    with default_dtype(dtype):
        model = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=2
        )
        return Decoder(model, num_frames=14), (torch.randn(14, 4, 72, 128),)


@zoo
def dc_autoencoder() -> Example:
    """The deep-compression autoencoder with linear attention, encoder and decoder: a 16 × 16 image."""
    from diffusers import AutoencoderDC

    blocks = ("ResBlock", "EfficientViTBlock")
    model = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 16),
        decoder_block_out_channels=(8, 16),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        downsample_block_type="pixel_unshuffle",
        upsample_block_type="pixel_shuffle",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )
    return RoundTrip(model), (torch.randn(1, 3, 16, 16),)


@zoo
def ltx_vae_decoder() -> Example:
    """LTX-Video's decoder: 3-D convolutions that upsample space and time, 2 latent frames of 4 × 4."""
    from diffusers import AutoencoderKLLTXVideo

    model = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, False, False, False),
        decoder_spatio_temporal_scaling=(True, False, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=2,
    )
    return Decoder(model), (torch.randn(1, 8, 2, 4, 4),)


@reproducible
def ltx_vae_decoder_full(dtype: torch.dtype = torch.float16) -> Example:
    """LTX-Video's decoder as published: 161 frames of 512 × 704 pixels, float16."""
    from diffusers import AutoencoderKLLTXVideo

    with default_dtype(dtype):
        return Decoder(AutoencoderKLLTXVideo()), (torch.randn(1, 128, 21, 16, 22),)


@zoo
def wan_vae_decoder() -> Example:
    """Wan's causal decoder, which runs frame by frame and caches the last frames: 2 latent frames of 4 × 4."""
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return Decoder(model), (torch.randn(1, 4, 2, 4, 4),)


# Video diffusion transformers


@zoo
def ltx_dit() -> Example:
    """LTX-Video's transformer: 2 blocks over 2 × 4 × 4 latent tokens, masked text."""
    from diffusers import LTXVideoTransformer3DModel

    model = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=16,
    )
    names = ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask")
    mask = torch.tensor([[1, 1, 1, 1, 1, 0]]).bool()
    args = (torch.randn(1, 32, 8), torch.randn(1, 6, 16), torch.tensor([5.0]), mask)
    return Positional(model, *names, num_frames=2, height=4, width=4), args


@reproducible
def ltx_dit_full(dtype: torch.dtype = torch.float16) -> Example:
    """LTX-Video's transformer as published: 161 frames of 512 × 704 pixels, 7392 latent tokens, float16."""
    from diffusers import LTXVideoTransformer3DModel

    with default_dtype(dtype):
        names = ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask")
        args = (torch.randn(1, 7392, 128), torch.randn(1, 128, 4096), torch.tensor([5.0]), torch.ones(1, 128).bool())
        return Positional(LTXVideoTransformer3DModel(), *names, num_frames=21, height=16, width=22), args


@zoo
def wan_dit() -> Example:
    """Wan's transformer: 2 blocks over patches of 2 latent frames of 8 × 8."""
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    args = (torch.randn(1, 4, 2, 8, 8), torch.tensor([5.0]), torch.randn(1, 6, 16))
    return Positional(model, "hidden_states", "timestep", "encoder_hidden_states"), args


@reproducible
def wan_dit_full(dtype: torch.dtype = torch.float16) -> Example:
    """Wan 2.1's transformer of 1.3 billion weights: 81 frames of 480 × 832 pixels, 32760 latent tokens, float16."""
    from diffusers import WanTransformer3DModel

    with default_dtype(dtype):
        model = WanTransformer3DModel(num_attention_heads=12, num_layers=30, ffn_dim=8960)
        args = (torch.randn(1, 16, 21, 60, 104), torch.tensor([5.0]), torch.randn(1, 512, 4096))
        return Positional(model, "hidden_states", "timestep", "encoder_hidden_states"), args


@zoo
def cogvideox_dit() -> Example:
    """CogVideoX's transformer: 2 blocks over text and patches of 2 latent frames of 8 × 8 together."""
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        max_text_seq_length=6,
    )
    args = (torch.randn(1, 2, 4, 8, 8), torch.randn(1, 6, 16), torch.tensor([5]))
    return Positional(model, "hidden_states", "encoder_hidden_states", "timestep"), args


@zoo
def hunyuan_dit() -> Example:
    """HunyuanVideo's transformer: one double-stream and one single-stream block over 2 latent frames of 4 × 4."""
    from diffusers import HunyuanVideoTransformer3DModel

    model = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        guidance_embeds=True,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    )
    names = ("hidden_states", "timestep", "encoder_hidden_states", "encoder_attention_mask", "pooled_projections")
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0, 0.0]])
    args = (torch.randn(1, 4, 2, 4, 4), torch.tensor([5.0]), torch.randn(1, 6, 16), mask, torch.randn(1, 8))
    return Positional(model, *names, "guidance"), (*args, torch.tensor([6.0]))


# State-space models, a vision transformer, a language model


@zoo
def mamba() -> Example:
    """Mamba: 2 layers over 6 tokens."""
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=64, hidden_size=32, state_size=8, num_hidden_layers=2, use_cache=False)
    return Positional(MambaForCausalLM(config), "input_ids"), (torch.randint(0, 64, (1, 6)),)


@zoo
def mamba2() -> Example:
    """Mamba-2, whose scan works on chunks: 2 layers over 16 tokens."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        vocab_size=64,
        hidden_size=32,
        state_size=8,
        num_heads=4,
        head_dim=16,
        n_groups=2,
        num_hidden_layers=2,
        chunk_size=8,
        use_cache=False,
    )
    return Positional(Mamba2ForCausalLM(config), "input_ids"), (torch.randint(0, 64, (1, 16)),)


@zoo
def vit() -> Example:
    """The vision transformer: 2 layers over 16 patches of a 32 × 32 image."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=10,
    )
    return Positional(ViTForImageClassification(config), "pixel_values"), (torch.randn(1, 3, 32, 32),)


@zoo
def llama() -> Example:
    """Llama with grouped queries: 2 layers over 8 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,
    )
    return Positional(LlamaForCausalLM(config), "input_ids"), (torch.randint(0, 64, (1, 8)),)

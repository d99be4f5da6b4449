"""What users of diffusers do today about activations, on the same sizes, and what it changes in the results.

::

    python -m benchmarks.todays_memory        # `python -m benchmarks.memory` prints it as well

Bytes are by liveness on fake tensors at full size, of the graph that the model gives with the method switched on; the
error is that of the small model of the zoo with random weights, against the model without the method.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import penstock
from benchmarks.harness import table, write_results
from examples import zoo
from penstock.passes.analysis.memory import Attention, memory
from penstock.passes.core.program import Program

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One model with one method; `error` is the largest difference as a share of the largest value."""

    model: str
    method: str
    attention: Attention
    whole_bytes: int
    bytes: int
    error: float


class InChunks(nn.Module):
    """Stable Video Diffusion's decoder on a few frames at a time: `decode_chunk_size` of its pipeline."""

    def __init__(self, decoder: nn.Module, frames: int) -> None:
        super().__init__()
        self.autoencoder, self.frames = decoder.autoencoder, frames

    def forward(self, latents: Tensor) -> Tensor:
        chunks = latents.split(self.frames)
        return torch.cat([self.autoencoder.decode(part, len(part), return_dict=False)[0] for part in chunks])


def tiled(decoder: nn.Module, height: int, width: int, frames: int) -> nn.Module:
    """A decoder with `enable_tiling` and decoding of some frames at a time; tiles overlap by an eighth and blend."""
    autoencoder = decoder.autoencoder
    autoencoder.enable_tiling(height, width, frames, height * 7 // 8, width * 7 // 8, frames // 2)
    autoencoder.use_framewise_decoding = True
    return decoder


def chunked(model: nn.Module) -> nn.Module:
    """A UNet whose feed-forward layers run on one row of the batch at a time: `enable_forward_chunking`."""
    model.model.enable_forward_chunking(chunk_size=1, dim=0)
    return model


def head_slices(model: nn.Module) -> nn.Module:
    """A UNet with `enable_attention_slicing("auto")` in its spatial attentions: half of the heads at a time.

    Temporal attentions, which have a sequence per pixel, are left out: their slices alone would be 10⁵ operators.
    """
    from diffusers.models.attention_processor import SlicedAttnProcessor

    processors = dict(model.model.attn_processors)
    for name in processors:
        if "temporal" not in name and "motion" not in name:
            heads = model.model.get_submodule(name.removesuffix(".processor")).heads
            processors[name] = SlicedAttnProcessor(max(1, heads // 2))
    model.model.set_attn_processor(processors)
    return model


Change = Callable[[Any], nn.Module]
METHODS: tuple[tuple[str, str, str, Change, Change], ...] = (  # model, small model, method, at full size, at small size
    ("svd_vae_decoder_full", "svd_vae_decoder", "decode_chunk_size=2", *[lambda m: InChunks(m, 2)] * 2),
    ("svd_vae_decoder_full", "svd_vae_decoder", "decode_chunk_size=1", *[lambda m: InChunks(m, 1)] * 2),
    (
        "ltx_vae_decoder_full", "ltx_vae_decoder", "enable_tiling, framewise",
        lambda m: tiled(m, 256, 256, 16), lambda m: tiled(m, 8, 8, 4),
    ),
    ("svd_unet_full", "svd_unet", "enable_forward_chunking", chunked, chunked),
    ("svd_unet_full", "svd_unet", "enable_attention_slicing", head_slices, head_slices),
    ("animatediff_full", "animatediff_unet", "enable_forward_chunking", chunked, chunked),
    ("animatediff_full", "animatediff_unet", "enable_attention_slicing", head_slices, head_slices),
)  # fmt: skip


@functools.cache
def program_of(name: str, change: Change | None) -> Program:
    """A full-size model on fake tensors, cleaned up."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        module, args = getattr(zoo, name)()
        module = module if change is None else change(module)
    return penstock.optimize(penstock.capture(module, args))


def error_of(name: str, change: Change) -> float:
    """What a method changes in the result of a small model."""
    module, args = zoo.ZOO[name]()
    with torch.no_grad():
        expected = module(*args)
        found = change(module)(*args)
    return float((found - expected).abs().max() / expected.abs().max())


def measure() -> list[Row]:
    """All methods."""
    rows = []
    for name, small, method, at_full, at_small in METHODS:
        for attention in ("fused", "materialized"):
            if attention == "fused" or "unet" in name or "diff" in name:
                whole, now = (
                    memory(program_of(name, change), attention).activation_bytes for change in (None, at_full)
                )
                rows.append(Row(name, method, attention, whole, now, error_of(small, at_small)))
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/todays_memory")
    compare(parser.parse_args().keep)


def compare(keep: bool) -> None:
    """Measure, print and keep."""
    rows = measure()
    head = ["model", "method", "attention", "whole MiB", "with it MiB", "error"]
    body = [
        [
            row.model,
            row.method,
            row.attention,
            f"{row.whole_bytes / MIB:.1f}",
            f"{row.bytes / MIB:.1f}",
            f"{row.error:.1e}",
        ]
        for row in rows
    ]
    text = table(head, body)
    print(text)
    if keep:
        write_results("todays_memory", {"rows": [*map(asdict, rows)]}, text)


if __name__ == "__main__":
    main()

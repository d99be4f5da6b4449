"""Which operators stay whole at capture, and which are taken apart.

Core ATen takes everything apart, which doubles the graph and loses what people think in: attention, linear, the norms.
penstock starts from torch's core decompositions and keeps the operators below. The result is functional, half as long,
and equal to eager bit by bit; only what is still taken apart into other arithmetic (`addcmul`, `lerp`, `std`, recurrent
layers) is equal up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.export import default_decompositions

aten = torch.ops.aten

KEEP: tuple[Any, ...] = (
    # contractions
    aten.scaled_dot_product_attention.default,
    aten.linear.default,
    aten.matmul.default,
    aten.conv1d.default,
    aten.conv2d.default,
    aten.conv3d.default,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    # normalisation
    aten.layer_norm.default,
    aten.group_norm.default,
    aten.instance_norm.default,
    aten.rms_norm.default,
    aten.native_layer_norm.default,
    aten.native_group_norm.default,
    aten._weight_norm.default,
    aten.softmax.int,
    aten._softmax.default,
    aten.log_softmax.int,
    # activations
    aten.silu.default,
    aten.gelu.default,
    aten.softplus.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.mish.default,
    aten.leaky_relu.default,
    aten.elu.default,
    # shape and sampling
    aten.embedding.default,
    aten.chunk.default,
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.unbind.int,
    aten.pixel_shuffle.default,
    aten.pixel_unshuffle.default,
    aten.repeat_interleave.self_int,
    aten.roll.default,
    aten.reflection_pad1d.default,
    aten.reflection_pad2d.default,
    aten.reflection_pad3d.default,
    aten.replication_pad1d.default,
    aten.replication_pad2d.default,
    aten.replication_pad3d.default,
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact1d.vec,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact3d.vec,
    aten.upsample_linear1d.vec,
    aten.upsample_bilinear2d.vec,
    aten.upsample_trilinear3d.vec,
    aten.upsample_bicubic2d.vec,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten.max_pool2d.default,
)


def decomposition_table() -> dict[Any, Any]:
    """Torch's decompositions to core ATen, without those of `KEEP`."""
    table: dict[Any, Any] = default_decompositions()
    for operator in KEEP:
        table.pop(operator, None)
    return table

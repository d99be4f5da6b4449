"""The door: the operators that every back end takes as they are. Legalisation writes all others in terms of these.

Plain data. A back end may take more; what it takes beyond the door, no pass counts on.
"""

from __future__ import annotations

import operator
from typing import Any

import torch

aten = torch.ops.aten

ELEMENTWISE_UNARY: frozenset[Any] = frozenset({
    # arithmetic
    aten.neg.default, aten.abs.default, aten.sign.default, aten.reciprocal.default,
    aten.floor.default, aten.ceil.default, aten.round.default, aten.trunc.default,
    # powers, exponentials, logarithms
    aten.sqrt.default, aten.rsqrt.default, aten.exp.default, aten.exp2.default, aten.expm1.default,
    aten.log.default, aten.log2.default, aten.log1p.default, aten.erf.default,
    # circular and hyperbolic functions
    aten.sin.default, aten.cos.default, aten.tan.default, aten.asin.default, aten.acos.default, aten.atan.default,
    aten.sinh.default, aten.cosh.default, aten.tanh.default,
    aten.asinh.default, aten.acosh.default, aten.atanh.default,
    # activations
    aten.relu.default, aten.sigmoid.default, aten.silu.default, aten.gelu.default, aten.softplus.default,
    aten.hardswish.default, aten.hardsigmoid.default, aten.mish.default, aten.leaky_relu.default, aten.elu.default,
    # bits and truth
    aten.logical_not.default, aten.bitwise_not.default,
    aten.isnan.default, aten.isinf.default, aten.isfinite.default,
})  # fmt: skip

ELEMENTWISE_BINARY: frozenset[Any] = frozenset({
    # arithmetic
    aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, aten.mul.Tensor, aten.mul.Scalar,
    aten.div.Tensor, aten.div.Scalar, aten.div.Tensor_mode, aten.div.Scalar_mode,
    aten.pow.Tensor_Scalar, aten.pow.Tensor_Tensor, aten.pow.Scalar,
    aten.remainder.Tensor, aten.remainder.Scalar, aten.fmod.Tensor, aten.fmod.Scalar,
    aten.maximum.default, aten.minimum.default, aten.atan2.default,
    # comparison
    aten.eq.Tensor, aten.eq.Scalar, aten.ne.Tensor, aten.ne.Scalar, aten.lt.Tensor, aten.lt.Scalar,
    aten.le.Tensor, aten.le.Scalar, aten.gt.Tensor, aten.gt.Scalar, aten.ge.Tensor, aten.ge.Scalar,
    # bits and truth
    aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default,
    aten.bitwise_and.Tensor, aten.bitwise_and.Scalar, aten.bitwise_or.Tensor, aten.bitwise_or.Scalar,
    aten.bitwise_xor.Tensor, aten.bitwise_xor.Scalar,
    aten.__lshift__.Tensor, aten.__lshift__.Scalar, aten.__rshift__.Tensor, aten.__rshift__.Scalar,
    aten.bitwise_left_shift.Tensor, aten.bitwise_right_shift.Tensor,
})  # fmt: skip

CHOICE: frozenset[Any] = frozenset({
    aten.where.self, aten.clamp.default, aten.clamp.Tensor, aten.clamp_min.default, aten.clamp_max.default,
    aten._to_copy.default,
})  # fmt: skip

REDUCTION: frozenset[Any] = frozenset({
    aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten.prod.default, aten.prod.dim_int,
    aten.amax.default, aten.amin.default, aten.max.default, aten.min.default, aten.max.dim, aten.min.dim,
    aten.argmax.default, aten.argmin.default, aten.var.correction,
    aten.any.default, aten.any.dim, aten.any.dims, aten.all.default, aten.all.dim, aten.all.dims,
    aten.cumsum.default,
})  # fmt: skip

LAYOUT: frozenset[Any] = frozenset({
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default, aten.transpose.int,
    aten.t.default, aten.expand.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims,
    aten.clone.default, aten.select.int, aten.slice.Tensor, aten.split.Tensor, aten.split_with_sizes.default,
    aten.chunk.default, aten.unbind.int, operator.getitem, aten.cat.default, aten.stack.default,
    aten.flip.default, aten.repeat.default, aten.roll.default, aten.constant_pad_nd.default,
    aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default,
    aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default,
})  # fmt: skip

CREATION: frozenset[Any] = frozenset({
    aten.full.default, aten.full_like.default, aten.zeros.default, aten.zeros_like.default, aten.ones.default,
    aten.ones_like.default, aten.empty.memory_format, aten.empty_permuted.default, aten.scalar_tensor.default,
    aten.arange.start_step, aten.eye.default, aten.new_zeros.default, aten.new_full.default,
})  # fmt: skip

INDEXING: frozenset[Any] = frozenset({
    aten.embedding.default, aten.index_select.default, aten.gather.default, aten.index.Tensor,
    aten.index_put.default, aten.scatter.src, aten.scatter.value, aten.scatter_add.default,
    aten.slice_scatter.default, aten.select_scatter.default, aten.masked_fill.Scalar,
    aten.topk.default, aten.sort.default,
})  # fmt: skip

NETWORK: frozenset[Any] = frozenset({
    # contractions
    aten.linear.default, aten.matmul.default, aten.mm.default, aten.bmm.default,
    aten.addmm.default, aten.baddbmm.default,
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.scaled_dot_product_attention.default,
    # normalisation
    aten.layer_norm.default, aten.group_norm.default,
    aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default,
    # pooling and sampling
    aten.avg_pool2d.default, aten.avg_pool3d.default, aten.max_pool2d.default,
    aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec,
    aten.upsample_linear1d.vec, aten.upsample_bilinear2d.vec, aten.upsample_trilinear3d.vec,
    aten.upsample_bicubic2d.vec,
})  # fmt: skip

DOOR: frozenset[Any] = (
    ELEMENTWISE_UNARY | ELEMENTWISE_BINARY | CHOICE | REDUCTION | LAYOUT | CREATION | INDEXING | NETWORK
)

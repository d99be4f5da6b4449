"""Rules of operators that compute: contractions, convolutions, norms, reductions, attention, resampling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from penstock.passes.analysis.axes.axis import Axis, CoarserError, Reach, WholeError
from penstock.passes.analysis.axes.rules import Emit, Needs, Part, crop, inputs_of, rule
from penstock.passes.core.arguments import arguments_of
from penstock.passes.core.ops import ATTENTION, GROUP_NORMALIZE, GROUP_STATS
from penstock.passes.core.shapes import shape_of

aten = torch.ops.aten


@rule(aten.linear.default)
def _linear(node: Node, axis: Axis) -> Needs:
    if axis.dim < len(shape_of(node)) - 1:
        return {"input": Reach(axis)}
    return {key: Reach(axis.at(0)) for key in ("weight", "bias") if key in inputs_of(node)}


@rule(aten.matmul.default, aten.bmm.default, aten.mm.default)
def _matmul(node: Node, axis: Axis) -> Needs:
    (left, a), (right, b) = inputs_of(node).items()
    rank = len(shape_of(node))
    a_shape, b_shape = shape_of(a), shape_of(b)
    if len(a_shape) < 2 or len(b_shape) < 2:
        raise WholeError("a product with a vector")
    if axis.dim == rank - 1:
        return {right: Reach(axis.at(len(b_shape) - 1))}
    if axis.dim == rank - 2:
        return {left: Reach(axis.at(len(a_shape) - 2))}
    needs: dict[str, Reach | None] = {}
    for key, shape in ((left, a_shape), (right, b_shape)):
        dim = axis.dim - (rank - len(shape))
        if dim >= 0 and shape[dim] == axis.extent:
            needs[key] = Reach(axis.at(dim))
    return needs


@rule(aten.addmm.default, aten.baddbmm.default)
def _product_and_sum(node: Node, axis: Axis) -> Needs:
    added, left, right = inputs_of(node).items()
    rank = len(shape_of(node))
    needs: dict[str, Reach | None] = {}
    if axis.dim != rank - 1:
        needs[left[0]] = Reach(axis)
    if axis.dim != rank - 2:
        needs[right[0]] = Reach(axis)
    dim = axis.dim - (rank - len(shape_of(added[1])))
    if dim >= 0 and shape_of(added[1])[dim] == axis.extent:
        needs[added[0]] = Reach(axis.at(dim))
    return needs


def _window(node: Node, dim: int, spatial: int) -> tuple[int, int, int, int]:
    """Kernel size, stride, padding before and dilation of a convolution or pooling along one dimension."""
    arguments = arguments_of(node)
    place = dim - (len(shape_of(node)) - spatial)

    def at(name: str, default: int) -> int:
        value = arguments.get(name, default)
        if isinstance(value, (list, tuple)):
            value = default if not value else value[place] if len(value) == spatial else value[0]
        return int(value)

    size = shape_of(arguments["weight"])[2 + place] if "weight" in arguments else at("kernel_size", 1)
    return size, at("stride", size if "kernel_size" in arguments else 1), at("padding", 0), at("dilation", 1)


def _sliding(node: Node, axis: Axis, key: str, spatial: int) -> Reach:
    size, stride, padding, dilation = _window(node, axis.dim, spatial)
    source = shape_of(inputs_of(node)[key])
    if (size, stride, padding) == (1, 1, 0):
        return Reach(axis)
    if axis.outer != 1:
        raise WholeError("it is an inner factor of a dimension that a window slides over")
    if axis.inner != 1:
        raise WholeError("a window slides over the elements of a run")
    return Reach(
        Axis(axis.dim, 1, source[axis.dim], 1), num=stride, first=-padding, last=dilation * (size - 1) - padding
    )


def _without_padding(part: Part, emit: Emit, arguments: dict[str, Any], key: str, value: float) -> None:
    """Pad only where the part meets the border, and let the operator itself not pad along the axis."""
    spatial = len(part.shape) - 2
    place = part.axis.dim - 2
    if place < 0:
        return
    padding = arguments["padding"]
    padding = list(padding) * spatial if len(padding) == 1 else list(padding)
    if padding[place] == 0:
        return
    before, after = part.padding[key]
    arguments["padding"] = [0 if index == place else item for index, item in enumerate(padding)]
    if before or after:
        pad = [0, 0] * (spatial - 1 - place) + [before, after]
        arguments[key] = emit(aten.constant_pad_nd.default, arguments[key], pad, value)


def _convolved(part: Part, emit: Emit, arguments: dict[str, Any]) -> None:
    groups = arguments["groups"]
    if part.axis.dim == 1 and groups > 1:
        arguments["groups"] = groups * (part.high - part.low) // part.axis.size
    _without_padding(part, emit, arguments, "input", 0.0)


@rule(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default, make=_convolved)
def _convolution(node: Node, axis: Axis) -> Needs:
    spatial = len(shape_of(node)) - 2
    if axis.dim == 0:
        return {"input": Reach(axis)}
    if axis.dim > 1:
        return {"input": _sliding(node, axis, "input", spatial)}
    groups = arguments_of(node)["groups"]
    weights: dict[str, Reach | None] = {key: Reach(axis.at(0)) for key in ("weight", "bias") if key in inputs_of(node)}
    if groups == 1:
        return weights
    channels = shape_of(inputs_of(node)["input"])[1]
    if groups % (axis.outer * axis.size) == 0 and axis.outer == 1:
        return {**weights, "input": Reach(Axis(1, 1, axis.size, channels // axis.size))}
    if axis.outer == 1 and math.gcd(groups, axis.size) > 1:
        raise CoarserError(math.gcd(groups, axis.size))
    raise WholeError("channels of one group belong together")


def _spread(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    """All that the positions of the window spread to, cropped to the part."""
    place, spatial = part.axis.dim - 2, len(part.shape) - 2
    if place < 0:
        return None
    size, stride, padding, dilation = _window(part.node, part.axis.dim, spatial)
    first, _ = _spread_from(size, stride, padding, dilation)
    begin = part.low // stride + first + part.padding["input"][0]
    low = part.low + padding - begin * stride
    high = low + part.high - part.low
    extent = (shape_of(arguments["input"])[part.axis.dim] - 1) * stride + dilation * (size - 1) + 1
    for name, here in (("padding", 0), ("output_padding", max(0, high - extent))):
        given = list(arguments[name])
        arguments[name] = [here if at == place else item for at, item in enumerate(given * (spatial // len(given)))]
    made = emit(part.node.target, *arguments.values())
    return crop(emit, made, part.axis, max(high, extent), low, high)


def _spread_from(size: int, stride: int, padding: int, dilation: int) -> tuple[int, int]:
    """From where the positions of a run of `stride` results come: the first and the last, counted from the run."""
    return (padding - dilation * (size - 1) + stride - 1) // stride, (padding + stride - 1) // stride


@rule(aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input, make=_spread)
def _transposed_convolution(node: Node, axis: Axis) -> Needs:
    if axis.dim == 0:
        return {"input": Reach(axis)}
    if axis.dim == 1:
        raise WholeError("each part would need all channels of the argument")
    if (axis.outer, axis.inner) != (1, 1):
        raise WholeError("a transposed convolution spreads the elements of a run")
    size, stride, padding, dilation = _window(node, axis.dim, len(shape_of(node)) - 2)
    if stride > dilation * (size - 1) + 1:
        raise WholeError("some of its positions come from nowhere")
    first, last = _spread_from(size, stride, padding, dilation)
    extent = shape_of(inputs_of(node)["input"])[axis.dim]
    return {"input": Reach(Axis(axis.dim, 1, extent, 1), den=stride, first=first, last=last)}


def _pooled_max(part: Part, emit: Emit, arguments: dict[str, Any]) -> None:
    _without_padding(part, emit, arguments, "self", -math.inf)


@rule(aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default, make=_pooled_max)
def _max_pool(node: Node, axis: Axis) -> Needs:
    arguments = arguments_of(node)
    spatial = len(arguments["kernel_size"])
    if axis.dim < len(shape_of(node)) - spatial:
        return {"self": Reach(axis)}
    if arguments["ceil_mode"] or len(shape_of(node)) != spatial + 2:
        raise WholeError("windows reach beyond the border")
    return {"self": _sliding(node, axis, "self", spatial)}


def _pooled_mean(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    """Zeros that are counted can be added before; else the operator pads on both sides, and its ends are cropped."""
    if arguments["count_include_pad"] or part.axis.dim < 2:
        return _without_padding(part, emit, arguments, "self", 0.0)
    size, stride, padding, _ = _window(part.node, part.axis.dim, len(part.shape) - 2)
    if not padding:
        return None
    made = emit(part.node.target, *arguments.values())
    begin = (part.low * stride - padding + part.padding["self"][0]) // stride
    extent = (shape_of(arguments["self"])[part.axis.dim] + 2 * padding - size) // stride + 1
    return crop(emit, made, part.axis, extent, part.low - begin, part.high - begin)


@rule(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default, make=_pooled_mean)
def _avg_pool(node: Node, axis: Axis) -> Needs:
    arguments = arguments_of(node)
    spatial = len(arguments["kernel_size"])
    if axis.dim < len(shape_of(node)) - spatial:
        return {"self": Reach(axis)}
    if arguments["ceil_mode"] or len(shape_of(node)) != spatial + 2:
        raise WholeError("windows reach beyond the border")
    _, stride, padding, _ = _window(node, axis.dim, spatial)
    if not arguments["count_include_pad"] and padding % stride:
        raise WholeError("a window that reaches beyond the border is a mean of fewer")
    return {"self": _sliding(node, axis, "self", spatial)}


@rule(aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default, aten.adaptive_max_pool2d.default)
def _adaptive_pool(node: Node, axis: Axis) -> Needs:
    if axis.dim >= len(shape_of(node)) - len(arguments_of(node)["output_size"]):
        raise WholeError("windows follow the whole extent")
    return {"self": Reach(axis)}


def _normalized_groups(part: Part, emit: Emit, arguments: dict[str, Any]) -> None:
    if part.axis.dim == 1:
        arguments["num_groups"] = arguments["num_groups"] * (part.high - part.low) // part.axis.size


@rule(aten.group_norm.default, make=_normalized_groups)
def _group_norm(node: Node, axis: Axis) -> Needs:
    if axis.dim == 0:
        return {"input": Reach(axis)}
    if axis.dim > 1:
        raise WholeError("its statistics are over the whole dimension")
    groups = arguments_of(node)["num_groups"]
    if axis.outer == 1 and groups % axis.size == 0:
        needs: dict[str, Reach | None] = {
            key: Reach(axis.at(0)) for key in ("weight", "bias") if key in inputs_of(node)
        }
        return {**needs, "input": Reach(axis)}
    if axis.outer == 1 and math.gcd(groups, axis.size) > 1:
        raise CoarserError(math.gcd(groups, axis.size))
    raise WholeError("channels of one group belong together")


@rule(GROUP_STATS)
def _group_stats(node: Node, axis: Axis) -> Needs:
    if axis.dim != 0:
        raise WholeError("its statistics belong together")
    return {"x": Reach(axis)}


@rule(GROUP_NORMALIZE)
def _group_normalize(node: Node, axis: Axis) -> Needs:
    if axis.dim == 1:
        raise WholeError("channels of one group belong together")
    return {"x": Reach(axis), "stats": Reach(axis)} if axis.dim == 0 else {"x": Reach(axis)}


@rule(aten.layer_norm.default, aten.rms_norm.default)
def _layer_norm(node: Node, axis: Axis) -> Needs:
    if axis.dim >= len(shape_of(node)) - len(arguments_of(node)["normalized_shape"]):
        raise WholeError("it normalises over the dimension")
    return {"input": Reach(axis)}


@rule(aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)
def _batch_norm(node: Node, axis: Axis) -> Needs:
    if axis.dim == 1:
        return {key: Reach(axis if key == "input" else axis.at(0)) for key in inputs_of(node)}
    return {"input": Reach(axis)}


@rule(
    aten.softmax.int, aten._softmax.default, aten.log_softmax.int, aten._log_softmax.default, aten.cumsum.default,
    aten.cumprod.default,
)  # fmt: skip
def _along_one_dim(node: Node, axis: Axis) -> Needs:
    if arguments_of(node)["dim"] % len(shape_of(node)) == axis.dim:
        raise WholeError("it needs the whole dimension")
    return {"self": Reach(axis)}


@rule(
    aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.var.correction, aten.prod.dim_int,
    aten.linalg_vector_norm.default, aten.argmax.default, aten.argmin.default, aten.any.dim, aten.all.dim,
    aten.any.dims, aten.all.dims, aten.logsumexp.default,
)  # fmt: skip
def _reduction(node: Node, axis: Axis) -> Needs:
    arguments = arguments_of(node)
    ((key, source),) = inputs_of(node).items()
    rank = len(shape_of(source))
    dims = arguments["dim"]
    if dims is None or dims == []:
        raise WholeError("it reduces everything")
    reduced = {dim % rank for dim in (dims if isinstance(dims, (list, tuple)) else [dims])}
    kept = [dim for dim in range(rank) if arguments["keepdim"] or dim not in reduced]
    if kept[axis.dim] in reduced:
        raise WholeError("it is reduced")
    return {key: Reach(axis.at(kept[axis.dim]))}


def _attended(part: Part, emit: Emit, arguments: dict[str, Any]) -> None:
    if part.axis.dim < len(part.shape) - 2 and "positions" in arguments:  # all queries: no need to be told which
        arguments["positions"] = emit(aten.arange.start_step, 0, part.shape[-2])


@rule(*ATTENTION, make=_attended)
def _attention(node: Node, axis: Axis) -> Needs:
    inputs = inputs_of(node)
    arguments = arguments_of(node)
    shape = shape_of(node)
    rank = len(shape)
    needs: dict[str, Reach | None] = {}
    if axis.dim == rank - 1:
        raise WholeError("each part would compute all scores again")
    if axis.dim == rank - 2:
        if arguments.get("is_causal"):
            raise WholeError("causal attention counts its queries from the first")
        needs["query"] = Reach(axis)
        if "positions" in inputs:
            needs["positions"] = Reach(axis.at(0))
    else:
        for key in ("query", "key", "value"):
            held = shape_of(inputs[key])
            if len(held) != rank:
                raise WholeError("its operands have several ranks")
            if held[axis.dim] == axis.extent:
                needs[key] = Reach(axis)
            elif held[axis.dim] != 1:  # grouped queries: a head of keys serves a run of heads
                needs[key] = _grouped(held[axis.dim], axis)
    if "attn_mask" in inputs:
        mask = shape_of(inputs["attn_mask"])
        dim = axis.dim - (rank - len(mask))
        if dim >= 0 and mask[dim] == axis.extent:
            needs["attn_mask"] = Reach(axis.at(dim))
    return needs


def _resampled(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    """The whole factor as before, then what is asked for of it."""
    source = shape_of(inputs_of(part.node)["input"])
    place = part.axis.dim - 2
    whole = shape_of(part.node)
    target = [extent * (whole[2 + i] // source[2 + i]) for i, extent in enumerate(shape_of(arguments["input"])[2:])]
    made = emit(part.node.target, arguments["input"], target, None)
    if place < 0:
        return made
    factor = whole[part.axis.dim] // source[part.axis.dim]
    start = part.low // factor * factor
    return crop(emit, made, part.axis, target[place], part.low - start, part.high - start)


@rule(
    aten.upsample_nearest1d.vec, aten.upsample_nearest2d.vec, aten.upsample_nearest3d.vec,
    aten._upsample_nearest_exact1d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_nearest_exact3d.vec,
    make=_resampled,
)  # fmt: skip
def _upsample_nearest(node: Node, axis: Axis) -> Needs:
    source, result = shape_of(inputs_of(node)["input"]), shape_of(node)
    if any(to % of for of, to in zip(source[2:], result[2:], strict=True)):
        raise WholeError("the factor is no whole number")
    if axis.dim < 2:
        return {"input": Reach(axis)}
    if axis.outer != 1 or axis.inner != 1:
        raise WholeError("it is an inner factor of a dimension that is stretched")
    return {"input": Reach(Axis(axis.dim, 1, source[axis.dim], 1), den=result[axis.dim] // source[axis.dim])}


def _blended(part: Part, emit: Emit, arguments: dict[str, Any]) -> Any:
    """What is asked for of the part enlarged: the positions next to it give its ends the neighbours that they have."""
    place = part.axis.dim
    if place < 2:
        return None
    source, whole = shape_of(inputs_of(part.node)["input"]), shape_of(part.node)
    held = shape_of(arguments["input"])
    target = [extent * to // of for extent, of, to in zip(held[2:], source[2:], whole[2:], strict=True)]
    made = emit(part.node.target, arguments["input"], target, False, None)
    factor = whole[place] // source[place]
    begin = part.low // factor - _NEIGHBOURS[part.node.target] + part.padding["input"][0]
    return crop(emit, made, part.axis, target[place - 2], part.low - begin * factor, part.high - begin * factor)


_NEIGHBOURS: dict[Any, int] = {
    aten.upsample_linear1d.vec: 1,
    aten.upsample_bilinear2d.vec: 1,
    aten.upsample_trilinear3d.vec: 1,
    aten.upsample_bicubic2d.vec: 2,
}
"""How many positions on either side of its own one an enlarged position may read."""


@rule(*_NEIGHBOURS, make=_blended)
def _upsample_blended(node: Node, axis: Axis) -> Needs:
    arguments = arguments_of(node)
    source, result = shape_of(inputs_of(node)["input"]), shape_of(node)
    given = arguments["scale_factors"]
    if axis.dim < 2:
        return {"input": Reach(axis)}
    factor, rest = divmod(result[axis.dim], source[axis.dim])
    if arguments["align_corners"]:
        raise WholeError("its corners are aligned, so that positions lie elsewhere in every part")
    if rest or factor & (factor - 1):
        raise WholeError("the factor is no power of two, so that positions are rounded")
    if given is not None and any(of * scale != to for of, scale, to in zip(source[2:], given, result[2:], strict=True)):
        raise WholeError("its factors are not those of its sizes")
    if (axis.outer, axis.inner) != (1, 1):
        raise WholeError("it is an inner factor of a dimension that is stretched")
    reach = _NEIGHBOURS[node.target]
    return {"input": Reach(Axis(axis.dim, 1, source[axis.dim], 1), den=factor, first=-reach, last=reach)}


def _grouped(heads: int, axis: Axis) -> Reach:
    """The heads of keys that a part of the heads of queries needs."""
    if axis.outer == 1 and heads % axis.size == 0:
        return Reach(Axis(axis.dim, 1, axis.size, heads // axis.size))
    if axis.outer == 1 and math.gcd(heads, axis.size) > 1:
        raise CoarserError(math.gcd(heads, axis.size))
    raise WholeError("queries share their keys in groups")
